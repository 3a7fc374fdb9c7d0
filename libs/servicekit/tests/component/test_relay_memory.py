"""A broker that lost what it had acknowledged is noticed, and gets it again from the outbox."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from kgl_contracts.topics import AUDIT, DOCUMENTS, IDENTITY
from kgl_servicekit.bus.memory import MemoryBus, MemoryProducer
from kgl_servicekit.bus.port import Ack, Record, SendFailed
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.refill import refill, release_refused
from kgl_servicekit.events.relay import Relay
from kgl_servicekit.events.relay_memory import Memory
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.counter import count_and_tell
from kgl_servicekit.testing.events import WORKSPACE, Handler, consumed_events, running
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.races import held_open, until_waiting


async def _sent(bus: MemoryBus, least: int) -> bool:
    return sum((await bus.end_offsets(DOCUMENTS.name)).values()) >= least


async def _tell(database: Database, document: UUID, times: int) -> None:
    for _ in range(times):
        await database.run(WORKSPACE, count_and_tell, document)


async def _paused(relay: Relay) -> bool:
    return relay._producer is None


async def _pending(database: Database) -> int:
    async def read(tx: Transaction, _: None) -> int:
        return int(await tx.fetchval("select count(*) from outbox_pending"))

    return await database.run((), read, None)


async def test_nothing_is_sent_to_a_broker_that_forgot_until_it_is_refilled_and_nothing_has_a_second_effect(
    database: Database, bus: MemoryBus
) -> None:
    handler, first, second = Handler(), uuid7(), uuid7()
    async with running(
        Relay(database, bus, worker="a").run, SubscriptionRunner(database, bus, handler.subscription).run
    ):
        await _tell(database, first, 3)
        await eventually(lambda: _effects(database, 3))
        await eventually(lambda: _pending_is(database, 0))
    bus.forget(DOCUMENTS.name)
    relay = Relay(database, bus, worker="a")
    async with running(relay.run, SubscriptionRunner(database, bus, handler.subscription).run):
        await _tell(database, first, 1)
        await _tell(database, second, 2)
        await eventually(lambda: _noticed(relay))
        assert relay.lost is not None and relay.lost.topics == (DOCUMENTS.name,)
        assert not await _sent(bus, 1)
        assert await database.run((), refill, [DOCUMENTS.name]) == 3
        await eventually(lambda: _sent(bus, 6))
        await eventually(lambda: _effects(database, 6))
        await eventually(lambda: _forgiven(relay))
    assert set((await consumed_events(database)).values()) == {1}
    assert [version for document, version in handler.seen if document == first] == [1, 2, 3, 4]


async def test_a_topic_that_is_made_anew_under_an_open_producer_is_noticed_though_no_send_fails(
    database: Database, bus: MemoryBus
) -> None:
    handler, document = Handler(), uuid7()
    relay = Relay(database, bus, worker="a", lives_every=0.05)
    async with running(relay.run, SubscriptionRunner(database, bus, handler.subscription).run):
        await _tell(database, document, 2)
        await eventually(lambda: _effects(database, 2))
        await eventually(lambda: _pending_is(database, 0))
        bus.forget(DOCUMENTS.name)
        await eventually(lambda: _noticed(relay))
        await _tell(database, document, 1)
        assert await database.run((), refill, [DOCUMENTS.name]) == 2
        await eventually(lambda: _effects(database, 3))
        await eventually(lambda: _forgiven(relay))
    assert set((await consumed_events(database)).values()) == {1}


async def _effects(database: Database, expected: int) -> bool:
    return len(await consumed_events(database)) == expected


async def _noticed(relay: Relay) -> bool:
    return relay.lost is not None


async def _forgiven(relay: Relay) -> bool:
    return relay.lost is None


async def test_a_broker_that_comes_back_empty_is_noticed_though_nothing_is_to_be_sent(
    database: Database, bus: MemoryBus
) -> None:
    relay = Relay(database, bus, worker="a", lives_every=0.05)
    async with running(relay.run):
        await _tell(database, uuid7(), 2)
        await eventually(lambda: _sent(bus, 2))
        await eventually(lambda: _pending_is(database, 0))
        bus.out = True
        await eventually(lambda: _paused(relay))
        bus.forget(DOCUMENTS.name)
        bus.out = False
        await eventually(lambda: _noticed(relay))


async def test_a_relay_that_starts_beside_an_empty_broker_notices_it_though_nothing_is_to_be_sent(
    database: Database, bus: MemoryBus
) -> None:
    async with running(Relay(database, bus, worker="a").run):
        await _tell(database, uuid7(), 2)
        await eventually(lambda: _sent(bus, 2))
        await eventually(lambda: _pending_is(database, 0))
    bus.forget(DOCUMENTS.name)
    relay = Relay(database, bus, worker="a")
    async with running(relay.run):
        await eventually(lambda: _noticed(relay))


class _Forgetful(MemoryBus):
    """Loses all documents right after the first acknowledgement."""

    forgotten = False

    def producer(self) -> MemoryProducer:
        return _ForgetfulProducer(self)


class _ForgetfulProducer(MemoryProducer):
    async def send(self, records: Sequence[Record]) -> list[Ack]:
        acks = await super().send(records)
        bus = self._bus
        if isinstance(bus, _Forgetful) and not bus.forgotten:
            bus.forgotten = True
            bus.forget(DOCUMENTS.name)
        return acks


async def test_what_is_lost_between_the_first_acknowledgement_of_a_topic_and_its_note_is_noticed(
    database: Database,
) -> None:
    bus = _Forgetful()
    await bus.declare([AUDIT, DOCUMENTS])
    await _tell(database, uuid7(), 2)
    relay = Relay(database, bus, worker="a", lives_every=0.05)
    async with running(relay.run):
        await eventually(lambda: _noticed(relay))
        assert await database.run((), refill, [DOCUMENTS.name]) == 2
        await eventually(lambda: _sent(bus, 2))


async def test_a_relay_that_has_sent_nothing_to_a_topic_knows_that_another_one_has_sent_to_its_earlier_life(
    database: Database, bus: MemoryBus
) -> None:
    relay, other = Relay(database, bus, worker="a", lives_every=60), Memory(database, bus)

    async def compared() -> bool:
        return relay._compared

    async with running(relay.run):
        await eventually(compared)
        await other.learn([DOCUMENTS.name])
        await database.run((), other.remember, [Ack(DOCUMENTS.name, 0, 0)])
        bus.forget(DOCUMENTS.name)
        await _tell(database, uuid7(), 1)
        await eventually(lambda: _noticed(relay))
        assert not await _sent(bus, 1)
        await database.run((), refill, [DOCUMENTS.name])
        await eventually(lambda: _sent(bus, 1))


class _Overtaken(MemoryBus):
    """Loses all documents right after the first acknowledgement, and another relay notes what the next life has."""

    database: Database | None = None

    def producer(self) -> MemoryProducer:
        return _OvertakenProducer(self)


class _OvertakenProducer(MemoryProducer):
    async def send(self, records: Sequence[Record]) -> list[Ack]:
        acks, bus = await super().send(records), self._bus
        assert isinstance(bus, _Overtaken)
        database, bus.database = bus.database, None
        if database is not None:
            bus.forget(DOCUMENTS.name)
            other = Memory(database, bus)
            await other.learn([DOCUMENTS.name])
            await MemoryProducer(bus).send(records)  # into the same partition, so that both note one place
            await database.run((), other.remember, acks)
        return acks


async def test_what_was_acknowledged_in_another_life_of_a_topic_than_is_noted_is_sent_again(database: Database) -> None:
    bus = _Overtaken()
    await bus.declare([AUDIT, DOCUMENTS])
    bus.database = database
    relay = Relay(database, bus, worker="a")
    async with running(relay.run):
        await _tell(database, uuid7(), 1)
        await eventually(lambda: _pending_is(database, 0))
        await eventually(lambda: _forgiven(relay))
    assert await _sent(bus, 2)  # the other's, and this one's again


async def test_a_broker_with_less_than_it_acknowledged_is_noticed_too(database: Database, bus: MemoryBus) -> None:
    document = uuid7()
    async with running(Relay(database, bus, worker="a").run):
        await _tell(database, document, 2)
        await eventually(lambda: _sent(bus, 2))
        await eventually(lambda: _pending_is(database, 0))
    for partition in range(DOCUMENTS.partitions):
        del bus.log(DOCUMENTS.name, partition)[1:]
    relay = Relay(database, bus, worker="a")
    async with running(relay.run):
        await _tell(database, document, 1)
        await eventually(lambda: _noticed(relay))
    assert await _pending(database) == 1


async def _pending_is(database: Database, expected: int) -> bool:
    return await _pending(database) == expected


class _Picky:
    """A producer that will never take one key."""

    def __init__(self, bus: MemoryBus, refused: str) -> None:
        self._inner = bus.producer()
        self._refused = refused

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def send(self, records: list[Record]) -> list[Ack]:
        for place, record in enumerate(records):
            if record.key == self._refused:
                acked = await self._inner.send(records[:place])
                raise SendFailed("too large for this broker", acked, retryable=False)
        return await self._inner.send(records)


class _PickyBus(MemoryBus):
    refused = ""

    def producer(self) -> _Picky:  # type: ignore[override]
        return _Picky(MemoryBusView(self), self.refused)


class MemoryBusView(MemoryBus):
    """The same logs, with the plain producer."""

    def __init__(self, bus: MemoryBus) -> None:
        self.__dict__ = bus.__dict__


async def test_an_event_that_the_bus_will_never_take_holds_its_key_and_no_other(database: Database) -> None:
    bus, refused, other = _PickyBus(), uuid7(), uuid7()
    await bus.declare([AUDIT, DOCUMENTS])
    bus.refused = str(refused)
    async with running(Relay(database, bus, worker="a").run):
        await _tell(database, other, 1)
        await _tell(database, refused, 2)
        await _tell(database, other, 2)
        await eventually(lambda: _sent(bus, 3))
        await eventually(lambda: _pending_is(database, 2))

    async def reason(tx: Transaction, _: None) -> tuple[str, str]:
        row = await tx.fetchrow("select key, error from relay_refused")
        assert row is not None
        return row["key"], row["error"]

    assert await database.run((), reason, None) == (str(refused), "too large for this broker")


async def test_a_released_key_is_tried_again_in_its_order(database: Database) -> None:
    bus, refused = _PickyBus(), uuid7()
    await bus.declare([AUDIT, DOCUMENTS])
    bus.refused = str(refused)
    async with running(Relay(database, bus, worker="a").run):
        await _tell(database, refused, 2)
        await eventually(lambda: _refused(database, 1))
    bus.refused = ""
    assert await database.run((), release_refused, (DOCUMENTS.name, str(refused)))
    assert not await database.run((), release_refused, (DOCUMENTS.name, str(refused)))
    async with running(Relay(database, bus, worker="a").run):
        await eventually(lambda: _sent(bus, 2))


async def _refused(database: Database, expected: int) -> bool:
    async def read(tx: Transaction, _: None) -> int:
        return int(await tx.fetchval("select count(*) from relay_refused"))

    return await database.run((), read, None) == expected


async def test_no_tick_says_that_all_was_sent_while_an_event_of_identity_is_refused(database: Database) -> None:
    bus, ticks = MemoryBus(), [0]
    await bus.declare([AUDIT, DOCUMENTS, IDENTITY])

    def tick(at: datetime) -> Record:
        ticks[0] += 1
        return Record(topic=IDENTITY.name, key="clock", headers={}, value=at.isoformat().encode())

    async def refuse(tx: Transaction, _: None) -> None:
        await tx.execute("insert into relay_refused (topic, key, id, error) values ($1, 'k', 1, 'no')", IDENTITY.name)

    await database.run((), refuse, None)
    async with running(Relay(database, bus, worker="a", heartbeat=tick).run):
        await _tell(database, uuid7(), 1)
        await eventually(lambda: _sent(bus, 1))
        assert ticks == [0]
        await database.run((), release_refused, (IDENTITY.name, "k"))
        await eventually(lambda: _ticked(ticks))


class _SlowBus(MemoryBus):
    """Its first acknowledgement comes only after `answer` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.sent, self.answer = asyncio.Event(), asyncio.Event()

    def producer(self) -> "_Slow":  # type: ignore[override]
        return _Slow(self)


class _Slow(MemoryProducer):
    def __init__(self, bus: _SlowBus) -> None:
        super().__init__(bus)
        self._slow = bus

    async def send(self, records: Sequence[Record]) -> list[Ack]:
        acks = await super().send(records)
        self._slow.sent.set()
        await self._slow.answer.wait()
        return acks


async def test_what_a_refill_puts_back_is_not_forgotten_by_who_got_its_acknowledgement_before(
    database: Database,
) -> None:
    bus = _SlowBus()
    await bus.declare([AUDIT, DOCUMENTS])

    async with running(Relay(database, bus, worker="a").run):
        await _tell(database, uuid7(), 1)
        await bus.sent.wait()
        async with held_open(database, (), refill, [DOCUMENTS.name]) as refilling:
            bus.answer.set()
            await until_waiting(database)
        assert await refilling == 0  # it was pending still
        await eventually(lambda: _sent(bus, 2))
        await eventually(lambda: _pending_is(database, 0))


async def test_what_a_refill_puts_back_is_not_forgotten_under_epochs_that_are_newer_than_the_acknowledgement(
    database: Database,
) -> None:
    bus = _SlowBus()
    await bus.declare([AUDIT, DOCUMENTS])
    relay = Relay(database, bus, worker="a")
    async with running(relay.run):
        await _tell(database, uuid7(), 1)
        await bus.sent.wait()
        await database.run((), refill, [DOCUMENTS.name])
        relay._shards.doubt()  # as when half of the lease is over
        bus.answer.set()
        await eventually(lambda: _sent(bus, 2))
        await eventually(lambda: _pending_is(database, 0))


async def _ticked(ticks: list[int]) -> bool:
    return ticks[0] > 0
