"""Calling a handler, and what its answer means."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from kgl_contracts.operations import StageState
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.delivery import Delivery
from kgl_servicekit.events.holds import NOT_YET, VERSION_PATIENCE, Hold, Reason
from kgl_servicekit.events.subscription import Done, Reject, Superseded, Verdict, cause_of

_CODES: Mapping[Reason, str] = {
    "failed": "handler_failed",
    "quarantined": "handler_quarantined",
    "behind": "held_behind",
}
"""What receipts call the reasons of holds that have another name there."""


async def handle(tx: Transaction, delivery: Delivery, run: int = 1) -> tuple[str, Hold | None]:
    """Run the handler of one delivery; the answer is the outcome, and the hold if it cannot be done.

    `run` counts how often a decision has set it going again, the first time included.
    """
    if delivery.unreadable is not None:
        return "held", Hold(delivery, "dead", "unreadable", error=delivery.unreadable)
    if delivery.unknown_version:
        return "held", Hold(delivery, "retrying", "unknown_version", delay=VERSION_PATIENCE, error=NOT_YET)
    if delivery.event is None or delivery.handled is None:
        return "unwanted", None
    scoped = tx.scoped(delivery.event.cause._replace(run=run), delivery.workspaces())
    return _outcome(delivery, await delivery.handled.handle(scoped, delivery.event))


async def handle_batch(
    tx: Transaction, deliveries: Sequence[Delivery], outcomes: Counter[str]
) -> list[tuple[int, Hold]]:
    """Run a batch handler; the answer is the refused events with their places, the others are counted."""
    handled = deliveries[0].handled
    assert handled is not None and handled.handle_batch is not None
    events = [delivery.event for delivery in deliveries if delivery.event is not None]
    verdicts = await handled.handle_batch(tx, events)
    if len(verdicts) != len(events):
        raise TypeError(f"the handler of {handled.model.event_type} gave {len(verdicts)} verdicts for {len(events)}")
    refusals = []
    for place, (delivery, verdict) in enumerate(zip(deliveries, verdicts, strict=True)):
        if type(verdict) is Done:
            continue
        outcome, refused = _outcome(delivery, verdict)
        if refused is None:
            outcomes[outcome] += 1
        else:
            refusals.append((place, refused))
    outcomes["done"] += sum(1 for verdict in verdicts if type(verdict) is Done)
    return refusals


def _outcome(delivery: Delivery, verdict: Verdict) -> tuple[str, Hold | None]:
    match verdict:
        case Done():
            return "done", None
        case Superseded():
            return "superseded", None
        case Reject(reason):
            return "held", Hold(delivery, "dead", "rejected", 1, error=reason)


async def report_held(tx: Transaction, held: Hold) -> None:
    """Tell the receipt that an event was not handled: it is dead, is tried again, or waits for something else."""
    code = _CODES.get(held.reason, held.reason)
    if held.state == "dead":
        await report_stage(tx, held.delivery, "failed", code)
    elif held.reason == "failed":
        again = datetime.now(UTC) + timedelta(seconds=held.delay)
        await report_stage(tx, held.delivery, "retrying", code, next_retry_at=again)
    else:
        await report_stage(tx, held.delivery, "waiting", code)


async def report_stage(
    tx: Transaction,
    delivery: Delivery,
    state: StageState,
    code: str | None,
    *,
    attempt: int = 1,
    run: int = 1,
    next_retry_at: datetime | None = None,
) -> None:
    """Tell the receipt that the handler of this delivery did not get through, or is to be tried once more."""
    handled = delivery.handled
    envelope = delivery.envelope
    if envelope is None or handled is None or handled.stage is None or not delivery.workspaces():
        return
    scoped = tx.scoped(cause_of(envelope), delivery.workspaces())
    await scoped.report(handled.stage, state, run=run, attempt=attempt, error=code, next_retry_at=next_retry_at)
