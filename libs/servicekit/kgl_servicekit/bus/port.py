"""What the core asks of a bus, whichever transport stands behind it.

Every transport passes one contract suite. The partition of a key is fixed for life: each transport has its
own hash for it, and no reader may depend on which one.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kgl_contracts.topics import Topic
from kgl_servicekit.errors import Unavailable


@dataclass(slots=True, kw_only=True)  # not frozen: one is made for each event, and freezing doubles the cost
class Record:
    """One message to be sent; never changed."""

    topic: str
    key: str
    headers: Mapping[str, str]
    value: bytes


@dataclass(slots=True, kw_only=True)
class StoredRecord(Record):
    """One message as it lies in the log."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Ack:
    """Where the bus has put a message, for good; offset -1 where it knows no more than that it has it."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class PartitionBatch:
    """What one poll gave of one partition, in offset order. Offsets may have holes."""

    topic: str
    partition: int
    records: Sequence[StoredRecord]


class SendFailed(Exception):
    """A send did not get through; `acked` is the prefix that did, and nothing behind it was sent."""

    def __init__(self, sentence: str, acked: Sequence[Ack] = (), *, retryable: bool = True) -> None:
        super().__init__(sentence)
        self.acked = tuple(acked)
        self.retryable = retryable


class PositionLost(Unavailable, code="position_lost"):
    """The bus does not hold the position that is to be read: it lost data, or trimmed too early."""

    topic: str
    partition: int
    offset: int


class TopicMissing(Unavailable, code="topic_missing"):
    """The bus answers, and has no such topic: it was not declared yet, or is lost with all that it held."""

    topic: str


class BusRefused(Unavailable, code="bus_refused"):
    """The bus answers and refuses this process: its login or a right is wrong, until an operator mends it."""


OnAssigned = Callable[[frozenset[int]], Awaitable[Mapping[int, int]]]


class Producer(Protocol):
    """Sends messages in order. After a SendFailed it is thrown away and a new one made."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    async def send(self, records: Sequence[Record]) -> list[Ack]:
        """Send all, in this order; raises SendFailed with the acknowledged prefix."""
        ...


class Consumer(Protocol):
    """Reads the partitions that this member of the group was given."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    async def poll(self, max_records: int, timeout: float) -> list[PartitionBatch]:
        """The next messages, from where `seek` last put each partition; empty after `timeout` seconds.

        Raises: PositionLost when a partition does not hold its position any more: the caller stops this
        consumer, asks for the `incarnation` anew, and begins again with another; Unavailable after `stop`.
        """
        ...

    def assignment(self) -> frozenset[int]: ...
    async def seek(self, partition: int, offset: int) -> None: ...
    def pause(self, partition: int) -> None: ...
    def resume(self, partition: int) -> None: ...

    async def commit(self, partition: int, offset: int) -> None:
        """Mirror the position, for lag tools and trimming; a member that lost the partition changes nothing."""
        ...


class Bus(Protocol):
    """A transport. Its outages show as `Unavailable`."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def ping(self) -> None: ...

    async def declare(self, topics: Sequence[Topic]) -> None:
        """See that the topics are there, made as they are declared; a transport whose user may make them does.

        Raises: TopicMissing and BusRefused, with what to do about it; ValueError for other numbers of partitions.
        """
        ...

    def producer(self) -> Producer: ...

    def consumer(self, topic: str, group: str, on_assigned: OnAssigned) -> Consumer:
        """A new member of a group. `on_assigned` answers from which offset to read each new partition."""
        ...

    async def incarnation(self, topic: str) -> str:
        """The id of the topic's life: another one means that the bus has forgotten what it held.

        Raises: TopicMissing, as the two below.
        """
        ...

    async def begin_offsets(self, topic: str) -> dict[int, int]:
        """The first offset that can still be read of each partition; the end offset of one that holds nothing.

        Compaction may move it too, beyond what nobody misses.
        """
        ...

    async def end_offsets(self, topic: str) -> dict[int, int]:
        """The offset that the next record of each partition will have."""
        ...

    async def forget_group(self, topic: str, group: str) -> None:
        """Nobody will read with this group again: what it had not read need not be kept for it."""
        ...
