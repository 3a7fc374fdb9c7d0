"""What was decided about dead letters of this service, and who holds them: kgl.decisions.

A decision that cannot be carried out any more (the letter is gone, or is being tried) fails its stage of the
receipt; it never fails itself. A repeat falls out as any event's does.
"""

from collections.abc import Mapping, Sequence

from kgl_contracts.dead_letters import DeadLetterDecided, stage_of, unpacked
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
from kgl_servicekit.metrics import DEAD_LETTER_ACTS

_FIND = "select id from held_event where subscription = $1 and letter = $2"
_REMEMBER = "update held_event set redrive_operation = $2, redrive_workspace = $3 where id = $1"
_REFUSALS = (DeadLetterMissing, NotYetDead, Invalid)  # all of them before anything is written


def decision_subscription(service: str, others: Sequence[Subscription]) -> Subscription:
    """The subscription that carries out what was decided about the letters of a service, its own included.

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

    return subscription


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
