"""The loop of one subscription: poll, settle, go on from the stored position.

The position in the database is the truth; what the bus keeps is a mirror for lag tools. Whatever ends a
batch without a commit seeks back to the stored position.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from loguru import logger

from kgl_servicekit.bus.port import Bus, Consumer, PartitionBatch
from kgl_servicekit.database.connection import LOST
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.events.delivery import Delivery, decode
from kgl_servicekit.events.settle import Batch, PositionMoved, settle
from kgl_servicekit.events.subscription import Subscription
from kgl_servicekit.metrics import CONSUMED, CONSUMER_BATCH_SECONDS, CONSUMER_PAUSED

_PAUSE_LIMIT = 10.0

_START = """
insert into consumer_position (subscription, topic, incarnation, partition, next, from_start)
select $1, $2, $3, partition, 0, true from unnest($4::int[]) as i(partition)
on conflict do nothing
"""

_POSITIONS = """
select partition, next from consumer_position
where subscription = $1 and topic = $2 and incarnation = $3 and partition = any($4::int[])
"""


@dataclass(slots=True)
class _Assigned:
    """Stored position by partition, as last seen."""

    next: dict[int, int]


class SubscriptionRunner:
    """Consumes one subscription in this process; several processes divide the partitions."""

    def __init__(self, database: Database, bus: Bus, subscription: Subscription) -> None:
        self._database = database
        self._bus = bus
        self._subscription = subscription
        self._incarnation = ""
        self._assigned = _Assigned({})

    async def run(self) -> None:
        """Consume until cancelled. An outage pauses the subscription and spends no attempt."""
        delay = 0.1
        while True:
            try:
                await self._consume()
            except Unavailable as out:
                logger.bind(subscription=self._subscription.name, error=str(out)).warning("consumer.paused")
                CONSUMER_PAUSED.labels(self._subscription.name).set(1)
                await asyncio.sleep(delay)
                delay = min(delay * 2, _PAUSE_LIMIT)

    async def _consume(self) -> None:
        self._incarnation = await self._bus.incarnation(self._subscription.topic.name)
        consumer = self._bus.consumer(self._subscription.topic.name, self._subscription.name, self._load_positions)
        await consumer.start()
        CONSUMER_PAUSED.labels(self._subscription.name).set(0)
        try:
            while True:
                for polled in await consumer.poll(self._subscription.batch, 1.0):
                    await self._settle_polled(consumer, polled)
        finally:
            await consumer.stop()

    async def _load_positions(self, partitions: frozenset[int]) -> Mapping[int, int]:
        async def load(tx: Transaction, wanted: list[int]) -> dict[int, int]:
            place = (self._subscription.name, self._subscription.topic.name, self._incarnation, wanted)
            await tx.execute(_START, *place)
            return {row["partition"]: row["next"] for row in await tx.fetch(_POSITIONS, *place)}

        positions = await self._database.run((), load, sorted(partitions))
        self._assigned.next.update(positions)
        return positions

    async def _settle_polled(self, consumer: Consumer, polled: PartitionBatch) -> None:
        deliveries = [decode(self._subscription, record) for record in polled.records]
        if not deliveries:
            return
        try:
            with CONSUMER_BATCH_SECONDS.labels(self._subscription.name).time():
                await self._settle(polled.partition, deliveries)
        except PositionMoved:
            positions = await self._load_positions(frozenset({polled.partition}))
            await consumer.seek(polled.partition, positions[polled.partition])
            return
        await consumer.commit(polled.partition, self._assigned.next[polled.partition])

    async def _settle(self, partition: int, deliveries: Sequence[Delivery]) -> None:
        """Settle in one transaction; if a handler raises, one by one from the left."""
        try:
            await self._commit(partition, deliveries)
        except (Unavailable, PositionMoved, *LOST):
            raise
        except Exception as error:
            if len(deliveries) == 1:
                failed = f"{type(error).__name__}: {error}"[:2000]
                logger.bind(subscription=self._subscription.name).opt(exception=error).warning("event.failed")
                await self._commit(partition, deliveries, failed)
                return
            for delivery in deliveries:
                await self._settle(partition, [delivery])

    async def _commit(self, partition: int, deliveries: Sequence[Delivery], failed: str | None = None) -> None:
        batch = Batch(
            incarnation=self._incarnation,
            partition=partition,
            start=self._assigned.next[partition],
            end=deliveries[-1].record.offset + 1,
            deliveries=deliveries,
            failed=failed,
        )
        outcomes = await self._database.run(
            _workspaces(deliveries),
            settle,
            (self._subscription, batch),
            reporter=f"{self._database.service}/{self._subscription.name}/{partition}",
        )
        self._assigned.next[partition] = batch.end
        for outcome, count in outcomes.items():
            CONSUMED.labels(self._subscription.name, outcome).inc(count)


def _workspaces(deliveries: Sequence[Delivery]) -> list[UUID]:
    return sorted({workspace for delivery in deliveries for workspace in delivery.workspaces()})
