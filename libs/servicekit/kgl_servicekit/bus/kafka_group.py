"""A member of a consumer group on Kafka.

Kafka divides the partitions (eagerly: at each rebalance all are revoked, then all are given anew); from
where to read is asked of the caller, never of the offsets that the group has committed.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from loguru import logger

from kgl_servicekit.bus.kafka_connection import outages
from kgl_servicekit.bus.kafka_records import read_any_name
from kgl_servicekit.bus.port import OnAssigned, PartitionBatch, PositionLost, StoredRecord, TopicMissing
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.waiting import wait_until_set

if TYPE_CHECKING:
    from kgl_servicekit.bus.kafka import KafkaBus

_JOIN_LIMIT = 40.0  # a member that died without a word is waited for
_SILENT_SESSIONS = 2
_REBALANCE_GRACE = 10.0
_MIRROR_EVERY = 1.0
_LIFE_EVERY = 5.0


class KafkaConsumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """Reads what its group gave it; tells the group its positions about once a second, for lag tools."""

    def __init__(self, bus: "KafkaBus", topic: str, group: str, on_assigned: OnAssigned) -> None:
        self._bus = bus
        self._topic = topic
        self._group = group
        self._on_assigned = on_assigned
        self._client: Any = None
        self._divided = asyncio.Event()
        self._round = 0
        self._new: frozenset[int] = frozenset()
        self._placed: set[int] = set()
        self._paused: set[int] = set()
        self._mirror: dict[int, int] = {}
        self._mirror_at = 0.0
        self._life: str | None = None
        self._life_at = 0.0
        self._heard: dict[int, int | None] = {}
        self._silence = 0.0

    async def start(self) -> None:
        """Join the group; done when the partitions of this member are placed."""
        self._life = await self._bus.incarnation(self._topic)
        client = AIOKafkaConsumer(
            **self._bus.connection.for_aiokafka(),
            client_id=self._bus.worker,
            group_id=self._bus.name_of(self._group),
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=int(self._bus.held * 1000),
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=int(self._bus.session * 1000),
            heartbeat_interval_ms=int(self._bus.session * 200),
        )
        self._client = client
        client.subscribe([self._bus.name_of(self._topic)], listener=self)
        try:
            with outages():
                async with asyncio.timeout(_JOIN_LIMIT):
                    await client.start()
                    await self._divided.wait()
            await self._place()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Leave the group, within seconds."""
        client, self._client = self._client, None
        if client is not None:
            await self._mirror_to(client)
            self._placed.clear()
            await self._bus.close(_leave(client))

    def on_partitions_revoked(self, _: set[TopicPartition]) -> None:
        """All partitions are on their way to somebody, perhaps to us again."""
        self._divided.clear()
        self._round += 1
        self._placed.clear()
        self._mirror.clear()
        self._new = frozenset()

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Hold the new partitions at a position, any, so that nothing is read before they are placed."""
        for place in assigned if self._client is not None else ():
            self._client.seek(place, 0)
            self._client.pause(place)
        self._new = frozenset(place.partition for place in assigned)
        self._divided.set()

    async def _place(self) -> None:
        while self._new:
            wanted, started = self._new, self._round
            positions = await self._on_assigned(wanted)
            if started != self._round:
                continue
            self._new = frozenset()
            for partition in wanted:
                self._client.seek(self._at(partition), positions[partition])
                if partition not in self._paused:
                    self._client.resume(self._at(partition))
            self._placed.update(wanted)

    def assignment(self) -> frozenset[int]:
        return frozenset(self._placed)

    async def seek(self, partition: int, offset: int) -> None:
        if partition in self._placed:
            self._client.seek(self._at(partition), offset)

    def pause(self, partition: int) -> None:
        self._paused.add(partition)
        if partition in self._placed:
            self._client.pause(self._at(partition))

    def resume(self, partition: int) -> None:
        self._paused.discard(partition)
        if partition in self._placed:
            self._client.resume(self._at(partition))

    async def commit(self, partition: int, offset: int) -> None:
        if partition in self._placed:
            self._mirror[partition] = offset

    async def poll(self, max_records: int, timeout: float) -> list[PartitionBatch]:
        if self._client is None:
            raise Unavailable("This consumer is stopped.", retry_after=1)
        asked = time.monotonic()
        if asked >= self._mirror_at:
            await self._mirror_to(self._client)
            self._mirror_at = asked + _MIRROR_EVERY
        if asked >= self._life_at:
            await self._check_life()
        found: list[PartitionBatch] = []
        with outages():
            if await wait_until_set(self._divided, timeout):
                await self._place()
                found = await self._read(max_records, max(0.0, timeout - (time.monotonic() - asked)))
        self._listen(found, time.monotonic() - asked)
        return found

    async def _check_life(self) -> None:
        """Positions are good for one life of the topic, and Kafka serves the next one under the same name."""
        try:
            life = await self._bus.incarnation(self._topic)
        except TopicMissing:
            raise
        except Unavailable:
            return  # an outage that lasts shows in the silence
        self._life_at = time.monotonic() + _LIFE_EVERY
        if life != self._life:
            raise PositionLost(f"The topic {self._topic} was made anew.", topic=self._topic, retry_after=1)

    async def _read(self, max_records: int, timeout: float) -> list[PartitionBatch]:
        try:
            # what begins to rebalance while it waits, waits on until it is divided anew
            async with asyncio.timeout(timeout + _REBALANCE_GRACE):
                read = await self._client.getmany(timeout_ms=int(timeout * 1000), max_records=max_records)
        except OffsetOutOfRangeError as lost:
            ((place, offset),) = lost.args[0].items()
            raise PositionLost(topic=self._topic, partition=place.partition, offset=offset, retry_after=1) from lost
        except UnicodeDecodeError as odd:
            # what was read of other partitions is lost with it: the caller begins anew, with a parser that can
            read_any_name()
            raise Unavailable(f"A record of {self._topic} has a header whose name is no text.", retry_after=1) from odd
        return [
            PartitionBatch(self._topic, place.partition, [_stored(self._topic, record) for record in records])
            for place, records in read.items()
            if place.partition in self._placed
        ]

    def _listen(self, found: Sequence[PartitionBatch], seconds: float) -> None:
        """A broker that is gone looks like one that has nothing new: notice that it does not answer at all."""
        readable = self._placed - self._paused
        heard = {partition: self._client.last_poll_timestamp(self._at(partition)) for partition in readable}
        quiet = not found and heard == self._heard and (readable or not self._divided.is_set())
        self._heard = heard
        self._silence = self._silence + seconds if quiet else 0.0
        if self._silence > _SILENT_SESSIONS * self._bus.session:
            raise Unavailable(f"Kafka has not answered for {self._silence:.0f} s.", retry_after=1)

    async def _mirror_to(self, client: Any) -> None:
        mirror, self._mirror = self._mirror, {}
        if not mirror:
            return
        try:
            async with asyncio.timeout(self._bus.limit):
                await client.commit({self._at(partition): offset for partition, offset in mirror.items()})
        except (KafkaError, TimeoutError) as lost:
            # the position is in the database; another member may have the partition by now
            logger.bind(topic=self._topic, group=self._group, error=repr(lost)).info("consumer.mirror_skipped")

    def _at(self, partition: int) -> TopicPartition:
        return TopicPartition(self._bus.name_of(self._topic), partition)


async def _leave(client: Any) -> None:
    """Leave the group and disconnect; in an outage `stop` may cancel itself before it has disconnected."""
    try:
        await client.stop()
    finally:
        await client._client.close()


def _stored(topic: str, record: Any) -> StoredRecord:
    """A record of whoever wrote it: what is not text becomes text somehow, what is missing is empty."""
    return StoredRecord(
        topic=topic,
        key=(record.key or b"").decode(errors="replace"),
        headers={name: value.decode(errors="replace") for name, value in record.headers if value is not None},
        value=record.value or b"",
        partition=record.partition,
        offset=record.offset,
    )
