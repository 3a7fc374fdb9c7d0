"""The loop of one subscription: poll, settle, go on from the stored position.

The position in the database is the truth; what the bus keeps is a mirror for lag tools. Whatever ends a
batch without a commit seeks back to the stored position.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from loguru import logger

from kgl_servicekit.bus.port import Bus, Consumer, PartitionBatch
from kgl_servicekit.database.connection import LOST
from kgl_servicekit.database.engine import Database, KeepsConflicting, UseCaseHangs
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.events import positions
from kgl_servicekit.events.alone import HANDLERS
from kgl_servicekit.events.breaker import Breaker, TooManyRefused
from kgl_servicekit.events.delivery import Delivery, decode
from kgl_servicekit.events.holds import HeldState, Hold, retry_delay
from kgl_servicekit.events.positions import Place
from kgl_servicekit.events.settle import Batch, PositionMoved, settle
from kgl_servicekit.events.subscription import Subscription
from kgl_servicekit.failpoints import failpoint
from kgl_servicekit.metrics import CONSUMED, CONSUMER_BATCH_SECONDS, CONSUMER_BREAKER, CONSUMER_PAUSED

_PAUSE_LIMIT = 5.0
_BREAKER_PAUSE = 30.0
_MIRROR_SECONDS = 1.0
_LANES = 2
_UNHANDLED = ("duplicate", "unwanted", "held")


class SubscriptionRunner:
    """Consumes one subscription in this process; several processes divide the partitions."""

    def __init__(
        self, database: Database, bus: Bus, subscription: Subscription, *, breaker_pause: float = _BREAKER_PAUSE
    ) -> None:
        self._database = database
        self._bus = bus
        self._subscription = subscription
        self._breaker = Breaker(subscription.reject_share)
        self._breaker_pause = breaker_pause
        self._place = Place(subscription.name, subscription.topic.name, "", ())
        self._next: dict[int, int] = {}
        self._alone_until: dict[int, int] = {}
        self._in_flight: dict[int, int] = {}
        self._mirrored: dict[int, int] = {}
        self._mirror_at = 0.0
        name = subscription.name
        self._seconds = CONSUMER_BATCH_SECONDS.labels(name)
        self._paused = CONSUMER_PAUSED.labels(name)
        self._broken = CONSUMER_BREAKER.labels(name)
        CONSUMED.labels(name, "refused")  # told as 0 before the first one: what begins with 1 has not increased

    async def run(self) -> None:
        """Consume until cancelled. An outage pauses the subscription and spends no attempt."""
        delay = 0.1
        while True:
            try:
                await self._consume()
            except Unavailable as out:
                self._note_pause(out)
                await asyncio.sleep(delay)
                delay = min(delay * 2, _PAUSE_LIMIT)

    async def _consume(self) -> None:
        """As a member of the group, until the bus cannot be reached."""
        topic = self._subscription.topic
        await self._bus.declare([topic])
        self._place = replace(self._place, incarnation=await self._bus.incarnation(topic.name))
        consumer = self._bus.consumer(topic.name, self._subscription.name, self._assign)
        try:
            await consumer.start()
            await self._follow(consumer)
        except (Unavailable, asyncio.CancelledError):
            with contextlib.suppress(Unavailable):
                await self._mirror(consumer, now=True)
                await self._database.run((), positions.stop_cleanly, self._at(consumer.assignment()))
            raise
        finally:
            await consumer.stop()

    async def _follow(self, consumer: Consumer) -> None:
        """Poll and settle for ever."""
        self._paused.set(0)
        delay = 0.1
        while True:
            polled = await consumer.poll(self._subscription.batch, 1.0)
            failpoint("consumer.polled")
            try:
                await self._settle_all(consumer, polled)
                delay = 0.1
                self._paused.set(0)
                if polled:
                    self._broken.set(0)
                await self._mirror(consumer)
            except Unavailable as out:
                await self._seek_back(consumer, polled)
                self._note_pause(out)
                await self._stand_still(consumer, delay)
                delay = min(delay * 2, _PAUSE_LIMIT)
            except TooManyRefused as refused:
                await self._seek_back(consumer, polled)
                self._broken.set(1)
                logger.bind(subscription=self._subscription.name, error=str(refused)).error("consumer.breaker_open")
                await self._stand_still(consumer, self._breaker_pause)
                self._breaker.forget()

    async def _stand_still(self, consumer: Consumer, seconds: float) -> None:
        """Read nothing for a while, and stay a member of the group."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for partition in consumer.assignment():
                consumer.pause(partition)
            new = await consumer.poll(1, min(left, 1.0))
            await self._seek_back(consumer, new)  # of a partition that came just now
        for partition in consumer.assignment():
            consumer.resume(partition)

    def _note_pause(self, out: Unavailable) -> None:
        logger.bind(subscription=self._subscription.name, error=str(out)).warning("consumer.paused")
        self._paused.set(1)

    def _at(self, partitions: frozenset[int]) -> Place:
        return replace(self._place, partitions=sorted(partitions))

    async def _assign(self, partitions: frozenset[int]) -> Mapping[int, int]:
        """New partitions: where each goes on; with care where earlier workers did not get through.

        A log that no longer has the stored position (trimmed before it, or restored to less) is read from its
        beginning: what was settled before falls out as a duplicate.
        """
        topic = self._place.topic
        if await self._bus.incarnation(topic) != self._place.incarnation:
            raise Unavailable(f"The topic {topic} has begun a new life.", retry_after=1)
        stored = await self._database.run((), positions.load, self._at(partitions))
        begins, ends = await asyncio.gather(self._bus.begin_offsets(topic), self._bus.end_offsets(topic))
        assigned = await self._database.run((), positions.assign, (self._at(partitions), stored, begins, ends))
        for partition, place in assigned.items():
            self._next[partition] = place.next
            self._mirrored[partition] = 0
            if place.lost is not None:
                logger.bind(subscription=self._subscription.name, partition=partition, position=place.lost).error(
                    "consumer.position_lost"
                )
            if place.suspicious:  # what came after those starts cannot have killed them
                self._alone_until[partition] = min(place.next + self._subscription.batch, ends.get(partition, 0))
        return {partition: place.next for partition, place in assigned.items()}

    async def _seek_back(self, consumer: Consumer, polled: Sequence[PartitionBatch]) -> None:
        for batch in polled:
            await consumer.seek(batch.partition, self._next[batch.partition])

    async def _settle_all(self, consumer: Consumer, polled: Sequence[PartitionBatch]) -> None:
        """Two partitions at a time, so that decoding one overlaps with the statements of the other."""
        lanes = asyncio.Semaphore(_LANES)

        async def in_lane(batch: PartitionBatch) -> None:
            async with lanes:
                await self._settle_polled(consumer, batch)

        ended = await asyncio.gather(*map(in_lane, polled), return_exceptions=True)
        for failure in filter(None, ended):
            raise failure

    async def _settle_polled(self, consumer: Consumer, polled: PartitionBatch) -> None:
        partition = polled.partition
        deliveries = [decode(self._subscription, record) for record in polled.records]
        try:
            with self._seconds.time():
                if deliveries[0].record.offset < self._alone_until.get(partition, 0):
                    await self._settle_careful(partition, deliveries)
                else:
                    async with HANDLERS.shared():
                        await self._settle(partition, deliveries)
        except PositionMoved:
            stored = await self._database.run((), positions.load, self._at(frozenset({partition})))
            self._next.update(stored)
            await consumer.seek(partition, stored[partition])
        failpoint("consumer.settled")

    async def _settle(self, partition: int, deliveries: Sequence[Delivery]) -> None:
        """Settle in one transaction; if a handler raises, in halves from the left, down to the one that it is.

        So too where others go first at every try: half of the events need half of the locks; and where too many are
        refused, as far as they are allowed. Where one hangs, one by one: each half that it is in would stand still for
        as long again.
        """
        size = (len(deliveries) + 1) // 2
        try:
            await self._commit(partition, deliveries)
            return
        except (KeepsConflicting, TooManyRefused):
            if len(deliveries) == 1:
                raise
        except (Unavailable, PositionMoved, *LOST):
            raise
        except Exception as error:
            if len(deliveries) == 1:
                await self._hold_failed(partition, deliveries[0], error)
                return
            if isinstance(error, UseCaseHangs):
                size = 1
        for first in range(0, len(deliveries), size):
            await self._settle(partition, deliveries[first : first + size])

    async def _settle_careful(self, partition: int, deliveries: Sequence[Delivery]) -> None:
        """One event at a time, each in flight alone."""
        logger.bind(subscription=self._subscription.name, partition=partition).warning("consumer.careful")
        for delivery in deliveries:
            async with HANDLERS.alone():
                await self._settle_alone(partition, delivery)

    async def _settle_alone(self, partition: int, delivery: Delivery) -> None:
        """Handle an event that may be a killer of workers; one that was alone at too many deaths is held instead."""
        offset = delivery.record.offset
        if self._in_flight.get(partition) != offset:  # a repeat after an outage is no death
            harmless = await self._database.run((), positions.take_off, (self._place, partition, offset))
            if harmless:
                self._in_flight[partition] = offset
            else:  # said again at each repeat, until it is held
                killer = f"the worker died {positions.MOST_DEATHS} times while it handled this event alone"
                logger.bind(subscription=self._subscription.name, offset=offset).error("event.quarantined")
                held = Hold(delivery, "dead", "quarantined", positions.MOST_DEATHS, error=killer)
                await self._commit(partition, [delivery], held)
                return
        await self._settle(partition, [delivery])

    async def _hold_failed(self, partition: int, delivery: Delivery, error: Exception) -> None:
        subscription = self._subscription
        logger.bind(subscription=subscription.name).opt(exception=error).warning("event.failed")
        state: HeldState = "dead" if subscription.attempts <= 1 else "retrying"
        sentence = f"{type(error).__name__}: {error}"[:2000]
        held = Hold(delivery, state, "failed", 1, retry_delay(subscription, 1), sentence)
        await self._commit(partition, [delivery], held)

    async def _commit(self, partition: int, deliveries: Sequence[Delivery], held: Hold | None = None) -> None:
        batch = Batch(
            incarnation=self._place.incarnation,
            partition=partition,
            start=self._next[partition],
            end=deliveries[-1].record.offset + 1,
            deliveries=deliveries,
            hold=held,
        )
        with self._breaker.settling(partition):
            outcomes = await self._database.run(
                _workspaces(deliveries),
                self._settle_checked,
                batch,
                reporter=f"{self._database.service}/{self._subscription.name}/{partition}",
            )
        self._next[partition] = batch.end
        for outcome, count in outcomes.items():
            CONSUMED.labels(self._subscription.name, outcome).inc(count)

    async def _settle_checked(self, tx: Transaction, batch: Batch) -> Counter[str]:
        outcomes = await settle(tx, (self._subscription, batch))
        self._breaker.check(batch.partition, *_refused(outcomes))
        return outcomes

    async def _mirror(self, consumer: Consumer, *, now: bool = False) -> None:
        """Tell the bus where we are, at most once a second: for lag tools and trimming."""
        if not now and time.monotonic() < self._mirror_at:
            return
        self._mirror_at = time.monotonic() + _MIRROR_SECONDS
        for partition in consumer.assignment():
            if self._mirrored.get(partition) != self._next[partition]:
                await consumer.commit(partition, self._next[partition])
                self._mirrored[partition] = self._next[partition]
        failpoint("consumer.mirrored")


def _refused(outcomes: Counter[str]) -> tuple[int, int]:
    """How many events were handled, and how many of them were refused."""
    return outcomes.total() - sum(outcomes[name] for name in _UNHANDLED), outcomes["refused"]


def _workspaces(deliveries: Sequence[Delivery]) -> list[UUID]:
    return sorted({workspace for delivery in deliveries for workspace in delivery.workspaces()})
