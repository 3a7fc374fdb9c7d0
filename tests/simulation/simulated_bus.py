"""The bus in memory, reached over a network that loses answers, by members that come, go, and overstay."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from kgl_contracts.topics import Topic
from kgl_servicekit.bus.port import Ack, OnAssigned, PartitionBatch, Record, SendFailed
from kgl_servicekit.errors import Unavailable
from tests.simulation.broker import Broker, Group
from tests.simulation.loop import PROCESS


class SimulatedBus:
    """The port, as one process has it."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self._life = PROCESS.get()

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def ask(self, label: str, answer: Callable[[], Any]) -> Any:
        """One question to the broker."""
        found: list[Any] = []

        def begin() -> bool:
            try:
                self.broker.memory.check()
                found.append(answer())
            except Exception as error:
                found.append(error)
                self.broker.felt.add(self._life)
            return True

        def finish() -> Any:
            if isinstance(found[0], Exception):
                raise found[0]
            return found[0]

        try:
            return await self.broker.scheduler.ask(f"bus {label}", begin, finish, lambda: None)
        except ConnectionError as lost:
            raise Unavailable(f"The bus cannot be reached: {lost}", retry_after=1) from lost

    async def ping(self) -> None:
        await self.ask("ping", lambda: None)

    async def declare(self, topics: Sequence[Topic]) -> None:
        await self.ask("declare", lambda: self.broker.declare(topics))

    def producer(self) -> "SimulatedProducer":
        return SimulatedProducer(self)

    def consumer(self, topic: str, group: str, on_assigned: OnAssigned) -> "SimulatedConsumer":
        return SimulatedConsumer(self, topic, group, on_assigned)

    async def incarnation(self, topic: str) -> str:
        found: str = await self.ask(f"life of {topic}", lambda: self.broker.memory._declared(topic).incarnation)
        return found

    async def begin_offsets(self, topic: str) -> dict[int, int]:
        found: dict[int, int] = await self.ask(
            f"begin of {topic}", lambda: _result(self.broker.memory.begin_offsets(topic))
        )
        return found

    async def end_offsets(self, topic: str) -> dict[int, int]:
        found: dict[int, int] = await self.ask(
            f"end of {topic}", lambda: _result(self.broker.memory.end_offsets(topic))
        )
        return found

    async def forget_group(self, topic: str, group: str) -> None:
        await self.ask("forget group", lambda: None)


class SimulatedProducer:
    """Appends; the broker may have what it does not acknowledge."""

    def __init__(self, bus: SimulatedBus) -> None:
        self._bus = bus

    async def start(self) -> None:
        await self._bus.ask("open producer", lambda: None)

    async def stop(self) -> None: ...

    async def send(self, records: Sequence[Record]) -> list[Ack]:
        """In one or two parts, so that others may come between."""
        random = self._bus.broker.scheduler.random
        middle = random.randrange(1, len(records)) if len(records) > 1 and random.random() < 0.4 else len(records)
        acks: list[Ack] = []
        for part in filter(None, (records[:middle], records[middle:])):
            try:
                acks += await self._bus.ask(_sent(part), partial(self._append, part))
            except Unavailable as out:
                raise SendFailed(str(out), acks) from out
            except SendFailed as failed:
                raise SendFailed(str(failed), [*acks, *failed.acked], retryable=failed.retryable) from failed
        return acks

    def _append(self, records: Sequence[Record]) -> list[Ack]:
        broker = self._bus.broker
        acks: list[Ack] = []
        for record in records:
            if broker.lost_acks and broker.scheduler.random.random() < broker.lost_acks:
                if broker.scheduler.random.random() < 0.5:
                    broker.memory.append(record)
                    broker.grown(record.topic)
                raise SendFailed("no acknowledgement", acks)
            acks.append(broker.memory.append(record))
            broker.grown(record.topic)
        return acks


class SimulatedConsumer:
    """A member of a group. It learns of a new division when it polls, and works on what it had until then."""

    def __init__(self, bus: SimulatedBus, topic: str, group: str, on_assigned: OnAssigned) -> None:
        life = PROCESS.get()
        assert life is not None
        self.life = life
        self.grown = asyncio.Event()
        self._bus = bus
        self._topic = topic
        self._name = group
        self._on_assigned = on_assigned
        self._round = -1
        self._next: dict[int, int] = {}
        self._paused: set[int] = set()
        self._open = False

    @property
    def _group(self) -> Group:
        return self._bus.broker.group(self._topic, self._name)

    async def start(self) -> None:
        await self._bus.ask("join", lambda: self._group.join(self))
        self._open = True
        await self._place(*await self._bus.ask("division", self._division))

    async def stop(self) -> None:
        self._open = False
        self._next.clear()
        try:
            await self._bus.ask("leave", lambda: None)
        except Unavailable:
            pass
        except ConnectionError:
            return
        self._group.leave(self)  # missed after a while if the broker was not told

    def _division(self) -> tuple[int, frozenset[int]]:
        group = self._group
        return group.round, group.shares.get(self, frozenset())

    async def _place(self, round: int, share: frozenset[int]) -> None:
        self._round = round
        self._next = {}
        self._paused.clear()
        if share:
            self._next = dict(await self._on_assigned(share))

    def assignment(self) -> frozenset[int]:
        return frozenset(self._next)

    async def poll(self, max_records: int, timeout: float) -> list[PartitionBatch]:
        if not self._open:
            raise Unavailable("This consumer is stopped.", retry_after=1)
        self.grown.clear()
        found = await self._bus.ask("poll", lambda: self._take(max_records))
        if isinstance(found, tuple):
            await self._place(*found)
            return []
        if found:
            for batch in found:
                self._next[batch.partition] = batch.records[-1].offset + 1
            return list(found)
        try:
            async with asyncio.timeout(timeout):
                await self.grown.wait()
        except TimeoutError:
            pass
        return []

    def _take(self, left: int) -> Any:
        """Records, or the new division."""
        if self._group.round != self._round:
            return self._division()
        found, random = [], self._bus.broker.scheduler.random
        for partition in sorted(self._next.keys() - self._paused):
            limit = min(left, random.randrange(1, 6))
            records = self._bus.broker.memory.read(self._topic, partition, self._next[partition], limit)
            if records:
                found.append(PartitionBatch(self._topic, partition, records))
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
            await self._bus.ask(
                "mirror", lambda: self._bus.broker.committed(self._topic, self._name, partition, offset)
            )


def _sent(records: Sequence[Record]) -> str:
    """What is sent, for the trace."""
    return "send " + ", ".join(
        f"{r.topic.rpartition('.')[2]}:{r.key[-4:]}/{r.headers.get('ce_sequence')}" for r in records
    )


def _result(coroutine: Any) -> Any:
    """What a coroutine gives that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        return ended.value
    raise AssertionError("it waits")
