"""A bus in memory, for tests of what stands on the port. It passes the contract suite of the real ones."""

import asyncio
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from kgl_contracts.topics import Topic
from kgl_servicekit.bus.port import (
    Ack,
    OnAssigned,
    PartitionBatch,
    PositionLost,
    Record,
    SendFailed,
    StoredRecord,
    TopicMissing,
)
from kgl_servicekit.errors import Unavailable


@dataclass(slots=True)
class _Log:
    partitions: list[list[StoredRecord]]
    trimmed: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    incarnation: str = field(default_factory=lambda: str(uuid4()))


class MemoryBus:
    """All topics of one process. `out` makes every call fail, as an outage would."""

    def __init__(self) -> None:
        self._logs: dict[str, _Log] = {}
        self._members: defaultdict[tuple[str, str], list[MemoryConsumer]] = defaultdict(list)
        self.committed: dict[tuple[str, str, int], int] = {}
        self.grown = asyncio.Condition()
        self.out = False

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def ping(self) -> None:
        self.check()

    def check(self) -> None:
        if self.out:
            raise Unavailable("The bus is out.", retry_after=1)

    async def declare(self, topics: Sequence[Topic]) -> None:
        self.check()
        for topic in topics:
            self._logs.setdefault(topic.name, _Log([[] for _ in range(topic.partitions)]))

    def forget(self, topic: str) -> None:
        """Lose everything, as a broker does whose disk is gone."""
        self._logs[topic] = _Log([[] for _ in self._logs[topic].partitions])

    def trim(self, topic: str, partition: int, before: int) -> None:
        """Let nobody read the records before an offset any more, as a broker does after the retention."""
        self._logs[topic].trimmed[partition] = before

    def producer(self) -> "MemoryProducer":
        return MemoryProducer(self)

    def consumer(self, topic: str, group: str, on_assigned: OnAssigned) -> "MemoryConsumer":
        return MemoryConsumer(self, topic, group, on_assigned)

    async def incarnation(self, topic: str) -> str:
        return self._declared(topic).incarnation

    async def begin_offsets(self, topic: str) -> dict[int, int]:
        log = self._declared(topic)
        return {number: log.trimmed[number] for number in range(len(log.partitions))}

    async def end_offsets(self, topic: str) -> dict[int, int]:
        return {number: len(log) for number, log in enumerate(self._declared(topic).partitions)}

    def _declared(self, topic: str) -> _Log:
        self.check()
        if topic not in self._logs:
            raise TopicMissing(topic=topic, retry_after=1)
        return self._logs[topic]

    async def forget_group(self, topic: str, group: str) -> None:
        self.check()
        for place in [place for place in self.committed if place[:2] == (topic, group)]:
            del self.committed[place]

    def log(self, topic: str, partition: int) -> list[StoredRecord]:
        """All records of a partition, with those that were trimmed."""
        return self._logs[topic].partitions[partition]

    def read(self, topic: str, partition: int, start: int, limit: int) -> list[StoredRecord]:
        """At most `limit` records from an offset on; PositionLost if it was trimmed."""
        if start < self._logs[topic].trimmed[partition]:
            raise PositionLost(topic=topic, partition=partition, offset=start, retry_after=1)
        return self.log(topic, partition)[start : start + limit]

    def append(self, record: Record) -> Ack:
        """Put a record at the end of its partition."""
        logs = self._logs[record.topic].partitions
        partition = zlib.crc32(record.key.encode()) % len(logs)
        stored = StoredRecord(
            topic=record.topic,
            key=record.key,
            headers=dict(record.headers),
            value=record.value,
            partition=partition,
            offset=len(logs[partition]),
        )
        logs[partition].append(stored)
        return Ack(record.topic, partition, stored.offset)

    async def regroup(self, topic: str, group: str) -> None:
        """Divide the partitions evenly between the members of a group."""
        members = self._members[topic, group]
        for place, member in enumerate(members):
            share = frozenset(range(place, len(self._logs[topic].partitions), len(members)))
            await member.assign(share)

    def members(self, topic: str, group: str) -> "list[MemoryConsumer]":
        return self._members[topic, group]


class MemoryProducer:
    """Appends at once."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus

    async def start(self) -> None:
        self._bus.check()

    async def stop(self) -> None: ...

    async def send(self, records: Sequence[Record]) -> list[Ack]:
        if self._bus.out:
            raise SendFailed("the bus is out")
        acks = [self._bus.append(record) for record in records]
        async with self._bus.grown:
            self._bus.grown.notify_all()
        return acks


class MemoryConsumer:
    """One member of a group."""

    def __init__(self, bus: MemoryBus, topic: str, group: str, on_assigned: OnAssigned) -> None:
        self._bus = bus
        self._topic = topic
        self._group = group
        self._on_assigned = on_assigned
        self._next: dict[int, int] = {}
        self._paused: set[int] = set()
        self._open = False

    async def start(self) -> None:
        self._bus.check()
        self._open = True
        self._bus.members(self._topic, self._group).append(self)
        await self._bus.regroup(self._topic, self._group)

    async def stop(self) -> None:
        self._open = False
        members = self._bus.members(self._topic, self._group)
        if self in members:
            members.remove(self)
            self._next.clear()
            await self._bus.regroup(self._topic, self._group)

    async def assign(self, partitions: frozenset[int]) -> None:
        """Take these partitions, and no others."""
        gained = partitions - self._next.keys()
        for lost in self._next.keys() - partitions:
            del self._next[lost]
        if gained:
            self._next.update(await self._on_assigned(gained))

    def assignment(self) -> frozenset[int]:
        return frozenset(self._next)

    async def poll(self, max_records: int, timeout: float) -> list[PartitionBatch]:
        self._bus.check()
        if not self._open:
            raise Unavailable("This consumer is stopped.", retry_after=1)
        found = self._take(max_records)
        if not found:
            try:
                async with asyncio.timeout(timeout), self._bus.grown:
                    await self._bus.grown.wait()
            except TimeoutError:
                return []
            self._bus.check()
            found = self._take(max_records)
        return found

    def _take(self, left: int) -> list[PartitionBatch]:
        found = []
        for partition in sorted(self._next.keys() - self._paused):
            records = self._bus.read(self._topic, partition, self._next[partition], left)
            if records:
                found.append(PartitionBatch(self._topic, partition, records))
                self._next[partition] += len(records)
                left -= len(records)
        return found

    async def seek(self, partition: int, offset: int) -> None:
        if partition in self._next:
            self._next[partition] = offset

    def pause(self, partition: int) -> None:
        self._paused.add(partition)

    def resume(self, partition: int) -> None:
        self._paused.discard(partition)

    async def commit(self, partition: int, offset: int) -> None:
        if partition in self._next:
            self._bus.committed[self._topic, self._group, partition] = offset
