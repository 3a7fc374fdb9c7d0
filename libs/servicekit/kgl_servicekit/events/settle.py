"""One poll, one transaction: the position moves, and every event before it is settled.

Settled means: its effect is committed, or its held row, or it was recognised as a duplicate or as unwanted.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.delivery import Delivery
from kgl_servicekit.events.handling import handle, handle_batch, report_held
from kgl_servicekit.events.holds import Hold, held_keys, hold, wake_gap
from kgl_servicekit.events.order import Order
from kgl_servicekit.events.subscription import Subscription
from kgl_servicekit.failpoints import failpoint

# The lock is that of the partition in every life of the topic: a consumer of an earlier life, which may not know yet
# that it is over, has a position of its own, but the same keys.
_MOVE = """
update consumer_position set next = $5
where (select pg_advisory_xact_lock(hashtext($1 || ' ' || $2), $4)) is not null
  and subscription = $1 and topic = $2 and incarnation = $3 and partition = $4 and next = $6
returning from_start
"""

_FIRST_HELD = """
select id, reason, epoch, sequence from held_event where subscription = $1 and topic = $2 and key = $3
order by epoch, sequence, id limit 1
"""


class PositionMoved(Exception):
    """Somebody else moved the position: this consumer is a zombie, or it skipped a batch. Load it again."""


class SplitBatch(Exception):
    """A batch handler refused an event and took a later one of the same key: they have to go one by one."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Deliveries of one partition in offset order; `start` is the stored position, `end` the next one.

    With `hold` set it is one event that is held for that reason instead of handled.
    """

    incarnation: str
    partition: int
    start: int
    end: int
    deliveries: Sequence[Delivery]
    hold: Hold | None = None


@dataclass(slots=True)
class _Settling:
    """A batch on its way."""

    tx: Transaction
    subscription: Subscription
    order: Order
    held: set[str]
    outcomes: Counter[str] = field(default_factory=Counter)
    holds: list[Hold] = field(default_factory=list)
    run: list[Delivery] = field(default_factory=list)

    async def settle(self, delivery: Delivery) -> None:
        if self.run and not self._joins_run(delivery):
            await self.finish_run()  # first: it may hold this event's key
        fate = self.order.of(delivery)
        if fate == "duplicate":
            self.outcomes["duplicate"] += 1
        elif fate == "gap":
            self.hold(Hold(delivery, "waiting", "gap", delay=self.subscription.gap_patience))
        elif fate == "too_old":
            self.hold(Hold(delivery, "dead", "too_old", error="older than the inbox remembers, or from the future"))
        elif delivery.key in self.held and not await self._fills_gap(delivery) and not _ends_key(delivery):
            self.order.advance(delivery)
            self.hold(Hold(delivery, "waiting", "behind"))
        else:
            self.order.advance(delivery)
            await self._handle(delivery)

    def hold(self, held: Hold) -> None:
        self.holds.append(held)
        self.held.add(held.delivery.key)
        self.outcomes["refused" if held.refused else "held"] += 1

    async def _handle(self, delivery: Delivery) -> None:
        handled = delivery.handled
        if delivery.event is not None and handled is not None and handled.handle_batch is not None:
            self.run.append(delivery)
            return
        outcome, refused = await handle(self.tx, delivery)
        if refused is None:
            self.outcomes[outcome] += 1
        else:
            self.hold(refused)

    def _joins_run(self, delivery: Delivery) -> bool:
        handled, first = delivery.handled, self.run[0].handled
        if handled is first or handled is None or first is None:
            return handled is first
        return handled.handle_batch is first.handle_batch

    async def finish_run(self) -> None:
        """Handle the events that lie next to each other and have one handler."""
        run, self.run = self.run, []
        if not run:
            return
        refusals = await handle_batch(self.tx, run, self.outcomes)
        for place, refused in refusals:
            if any(later.key == refused.delivery.key for later in run[place + 1 :]):
                raise SplitBatch(f"{self.subscription.name} refused an event of {refused.delivery.key}")
            self.hold(refused)

    async def _fills_gap(self, delivery: Delivery) -> bool:
        """Whether the key is held only because this very event was missing."""
        envelope = delivery.envelope
        if envelope is None or envelope.sequence is None:
            return False
        name, topic = self.subscription.name, self.subscription.topic.name
        first = await self.tx.fetchrow(_FIRST_HELD, name, topic, delivery.key)
        if first is None or first["reason"] != "gap":
            return False
        await wake_gap(self.tx, first["id"])
        # one that is held itself (it came again) waits for its turn in the queue
        return (envelope.source_epoch, envelope.sequence) < (first["epoch"], first["sequence"])


def _ends_key(delivery: Delivery) -> bool:
    """Whether the event supersedes whatever of its key is held."""
    return delivery.event is not None and delivery.handled is not None and delivery.handled.ends_key


def _behind(failed: Hold) -> Hold:
    """An event that did not wait for those that are held, and could not be handled: now it waits for them."""
    if failed.reason != "failed" or not _ends_key(failed.delivery):
        return failed
    return Hold(failed.delivery, "waiting", "behind", error=failed.error)


async def settle(tx: Transaction, command: tuple[Subscription, Batch]) -> Counter[str]:
    """Settle a batch; raises PositionMoved, or whatever a handler raises. The answer counts the outcomes."""
    subscription, batch = command
    place = (subscription.name, subscription.topic.name, batch.incarnation, batch.partition)
    moved = await tx.fetchrow(_MOVE, *place, batch.end, batch.start)
    if moved is None:
        raise PositionMoved(f"{subscription.name} is not at {batch.start} of partition {batch.partition}")
    deliveries = batch.deliveries
    # first, since whoever works a held key off moves its last settled event under the lock that this waits for
    held = await held_keys(tx, subscription, [delivery.key for delivery in deliveries])
    order = await Order.load(tx, subscription, deliveries, from_start=moved["from_start"])
    settling = _Settling(tx, subscription, order, held)
    if batch.hold is None or order.of(deliveries[0]) != "next":
        for delivery in deliveries:
            await settling.settle(delivery)
        await settling.finish_run()
    else:
        order.advance(deliveries[0])
        settling.hold(_behind(batch.hold) if deliveries[0].key in held else batch.hold)
    await order.remember(tx, subscription)
    if settling.holds:
        await hold(tx, subscription, settling.holds, batch.incarnation)
        for held_now in settling.holds:
            await report_held(tx, held_now)
        failpoint("hold.written")
    return settling.outcomes
