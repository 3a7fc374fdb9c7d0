"""What was decided about dead letters of this service, and about what failed of its jobs: kgl.decisions.

A decision that cannot be carried out any more (the letter is gone, or is being tried) fails its stage of the
receipt; it never fails itself. A repeat falls out as any event's does. Jobs that are done again are no stage of a
receipt of their own: the one that they belong to goes on.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from kgl_contracts.dead_letters import DeadLetterDecided, stage_of, unpacked
from kgl_contracts.operations import OperationRetried
from kgl_contracts.topics import DECISIONS
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Invalid
from kgl_servicekit.events.dead_letters import (
    DeadLetter,
    DeadLetterMissing,
    NotYetDead,
    correct,
    discard,
    redrive,
)
from kgl_servicekit.events.subscription import DONE, SUPERSEDED, Event, Subscription, Verdict
from kgl_servicekit.jobs import queue
from kgl_servicekit.metrics import DEAD_LETTER_ACTS

_FIND = "select id from held_event where subscription = $1 and letter = $2"
_REMEMBER = "update held_event set redrive_operation = $2, redrive_workspace = $3 where id = $1"
_REFUSALS = (DeadLetterMissing, NotYetDead, Invalid)  # all of them before anything is written


def decision_subscription(service: str, others: Sequence[Subscription]) -> Subscription:
    """The subscription that carries out what was decided about a service's jobs, and letters, its own included.

    Each in a transaction of its own: in one, decisions would take the locks of their keys in any order.
    """
    subscription = Subscription(f"{service}.decisions", topic=DECISIONS, batch=1)
    known = {each.name: each for each in (*others, subscription)}

    @subscription.on(DeadLetterDecided)
    async def on_decided(tx: Transaction, event: Event[DeadLetterDecided]) -> Verdict:
        if event.data.service != service:
            return SUPERSEDED
        await _carry_out(tx, known, event.data)
        return DONE

    @subscription.on(OperationRetried)
    async def on_retried(tx: Transaction, event: Event[OperationRetried]) -> Verdict:
        if service not in event.data.services:
            return SUPERSEDED
        return DONE if await _retry(tx, event.data.operation_id) else SUPERSEDED

    return subscription


async def _retry(tx: Transaction, operation: UUID) -> bool:
    """Queue the failed jobs of an operation anew, each as its next run; False when there is none any more."""
    jobs = await queue.reopen(tx, operation=operation)
    if jobs:
        await tx.audit("operation.retry", f"operation:{operation}", details={"service": tx.service, "jobs": jobs})
    return jobs > 0


async def _carry_out(tx: Transaction, known: Mapping[str, Subscription], decision: DeadLetterDecided) -> None:
    stage = stage_of(decision.service, decision.act, decision.letter_id)
    try:
        await _act(tx, known, decision)
    except _REFUSALS as refused:
        await tx.report(stage, "failed", error=refused.code)
        outcome = "refused"
    else:
        await tx.report(stage, "running" if decision.act == "redrive" else "done")
        outcome = "done"
    DEAD_LETTER_ACTS.labels(decision.subscription, decision.act, outcome).inc()


async def _act(tx: Transaction, known: Mapping[str, Subscription], decision: DeadLetterDecided) -> None:
    subscription = known.get(decision.subscription)
    held = None
    if subscription is not None:
        held = await tx.fetchval(_FIND, subscription.name, decision.letter_id)
    if subscription is None or held is None:
        raise DeadLetterMissing
    letter = DeadLetter(subscription, held)
    of_letter = tx.scoped(tx.cause, ())  # the record of the act belongs to the workspace of the letter
    if decision.act == "redrive":
        await redrive(of_letter, letter)
        await tx.execute(_REMEMBER, held, tx.cause.operation_id, tx.workspace)
    elif decision.act == "discard":
        await discard(of_letter, (letter, decision.reason or ""))
    else:
        await correct(of_letter, (letter, _corrected(decision)))


def _corrected(decision: DeadLetterDecided) -> bytes:
    try:
        return unpacked(decision.value or "")
    except ValueError as wrong:
        raise Invalid(str(wrong)) from wrong
