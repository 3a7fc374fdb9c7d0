"""One poll, one transaction: the position moves, and every event before it is settled.

Settled means: its effect is committed, or its held row, or it was recognised as a duplicate or as unwanted.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from kgl_contracts.operations import StageState
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.delivery import Delivery
from kgl_servicekit.events.holds import Hold, held_keys, hold, retry_delay, wake_gap
from kgl_servicekit.events.subscription import Done, Reject, Subscription, Superseded

_MOVE = """
update consumer_position set next = $5
where subscription = $1 and topic = $2 and incarnation = $3 and partition = $4 and next = $6
returning from_start
"""

_SEEN = """
select key, source, epoch, last from key_position
where subscription = $1 and topic = $2 and key = any($3::text[])
"""

_REMEMBER = """
insert into key_position (subscription, topic, key, source, epoch, last)
select $1, $2, key, source, epoch, last
from unnest($3::text[], $4::text[], $5::bigint[], $6::bigint[]) as i(key, source, epoch, last)
on conflict (subscription, topic, key, source) do update set epoch = excluded.epoch, last = excluded.last
"""


class PositionMoved(Exception):
    """Somebody else moved the position: this consumer is a zombie, or it skipped a batch. Load it again."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Deliveries of one partition in offset order; `start` is the stored position, `end` the next one."""

    incarnation: str
    partition: int
    start: int
    end: int
    deliveries: Sequence[Delivery]
    failed: str | None = None


@dataclass(slots=True)
class _Keys:
    """The last settled (epoch, sequence) by (key, source)."""

    last: dict[tuple[str, str], tuple[int, int]]
    changed: set[tuple[str, str]]
    from_start: bool


async def settle(tx: Transaction, command: tuple[Subscription, Batch]) -> Counter[str]:
    """Settle a batch; raises PositionMoved, or whatever a handler raises. The answer counts the outcomes.

    With `failed` set, the batch is one event whose handler raised that error: it is held instead of handled.
    """
    subscription, batch = command
    keys = await _begin(tx, subscription, batch)
    held = await held_keys(tx, subscription, [delivery.key for delivery in batch.deliveries])
    outcomes: Counter[str] = Counter()
    holds: list[Hold] = []
    for delivery in batch.deliveries:
        outcome = await _settle_one(tx, subscription, delivery, keys, held, holds, batch.failed)
        outcomes[outcome] += 1
    await _remember(tx, subscription, keys)
    if holds:
        await hold(tx, subscription, holds)
    return outcomes


async def _begin(tx: Transaction, subscription: Subscription, batch: Batch) -> _Keys:
    name, topic = subscription.name, subscription.topic.name
    moved = await tx.fetchrow(_MOVE, name, topic, batch.incarnation, batch.partition, batch.end, batch.start)
    if moved is None:
        raise PositionMoved(f"{name} is not at {batch.start} of partition {batch.partition}")
    wanted = sorted({delivery.key for delivery in batch.deliveries})
    rows = await tx.fetch(_SEEN, name, topic, wanted)
    last = {(row["key"], row["source"]): (row["epoch"], row["last"]) for row in rows}
    return _Keys(last, set(), moved["from_start"])


async def _remember(tx: Transaction, subscription: Subscription, keys: _Keys) -> None:
    if not keys.changed:
        return
    changed = sorted(keys.changed)
    await tx.execute(
        _REMEMBER,
        subscription.name,
        subscription.topic.name,
        [key for key, _ in changed],
        [source for _, source in changed],
        [keys.last[place][0] for place in changed],
        [keys.last[place][1] for place in changed],
    )


async def _settle_one(
    tx: Transaction,
    subscription: Subscription,
    delivery: Delivery,
    keys: _Keys,
    held: set[str],
    holds: list[Hold],
    failed: str | None,
) -> str:
    order = _order(subscription, delivery, keys)
    if order == "duplicate":
        return "duplicate"
    parked = delivery.key in held
    if order == "gap":
        holds.append(Hold(delivery, "waiting", "gap", delay=subscription.gap_patience))
    elif parked and not await _fills_gap(tx, subscription, delivery):
        _advance(delivery, keys)
        holds.append(Hold(delivery, "waiting", "behind"))
    else:
        _advance(delivery, keys)
        outcome, refused = await handle(tx, subscription, delivery, failed)
        if refused is None:
            return outcome
        holds.append(refused)
    held.add(delivery.key)
    return "held"


def _order(subscription: Subscription, delivery: Delivery, keys: _Keys) -> str:
    """`next`, `duplicate` or `gap`, by the contiguous sequence of the key at its source."""
    envelope = delivery.envelope
    if envelope is None or envelope.sequence is None:
        return "next"
    at = (envelope.source_epoch, envelope.sequence)
    known = keys.last.get((delivery.key, envelope.source))
    if known is not None and at <= known:
        return "duplicate"
    if subscription.topic.compacted:
        return "next"
    if known is None:
        return "gap" if keys.from_start and envelope.source_epoch == 1 and envelope.sequence > 1 else "next"
    if envelope.source_epoch > known[0] or envelope.sequence == known[1] + 1:
        return "next"
    return "gap"


def _advance(delivery: Delivery, keys: _Keys) -> None:
    envelope = delivery.envelope
    if envelope is None or envelope.sequence is None:
        return
    place = (delivery.key, envelope.source)
    keys.last[place] = (envelope.source_epoch, envelope.sequence)
    keys.changed.add(place)


async def _fills_gap(tx: Transaction, subscription: Subscription, delivery: Delivery) -> bool:
    """Whether the key is held only because this very event was missing."""
    envelope = delivery.envelope
    if envelope is None or envelope.sequence is None:
        return False
    first = await tx.fetchrow(
        """select reason, epoch, sequence from held_event where subscription = $1 and topic = $2 and key = $3
           order by epoch, sequence, id limit 1""",
        subscription.name,
        subscription.topic.name,
        delivery.key,
    )
    if first is None or first["reason"] != "gap":
        return False
    if (envelope.source_epoch, envelope.sequence) > (first["epoch"], first["sequence"]):
        return False
    await wake_gap(tx, subscription, delivery.key)
    return True


async def handle(
    tx: Transaction, subscription: Subscription, delivery: Delivery, failed: str | None = None
) -> tuple[str, Hold | None]:
    """Run the handler of one delivery; the answer is the outcome, and the hold if it cannot be done now."""
    if delivery.unreadable is not None:
        await report_stage(tx, delivery, "failed", "unreadable")
        return "held", Hold(delivery, "dead", "unreadable", error=delivery.unreadable)
    if delivery.event is None or delivery.handled is None:
        return "unwanted", None
    if failed is not None:
        last_try = subscription.attempts <= 1
        await report_stage(tx, delivery, "failed" if last_try else "retrying", "handler_failed")
        delay = retry_delay(subscription, 1)
        return "held", Hold(delivery, "dead" if last_try else "retrying", "failed", 1, delay, failed)
    verdict = await delivery.handled.handle(tx.scoped(delivery.cause(), delivery.workspaces()), delivery.event)
    match verdict:
        case Done():
            return "done", None
        case Superseded():
            return "superseded", None
        case Reject(reason):
            await report_stage(tx, delivery, "failed", "rejected")
            return "held", Hold(delivery, "dead", "rejected", 1, error=reason)


async def report_stage(tx: Transaction, delivery: Delivery, state: StageState, code: str, attempt: int = 1) -> None:
    """Tell the receipt that the handler of this delivery did not get through."""
    handled = delivery.handled
    if handled is None or handled.stage is None or not delivery.workspaces():
        return
    scoped = tx.scoped(delivery.cause(), delivery.workspaces())
    await scoped.report(handled.stage, state, attempt=attempt, error=code)
