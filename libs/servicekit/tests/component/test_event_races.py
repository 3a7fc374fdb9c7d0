"""Transactions of one key that meet: consumers of two lives of a topic, redrivers, and operators."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest

from kgl_contracts.ingest import DocumentDeleted
from kgl_contracts.topics import DOCUMENTS
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.database.connection import Connection
from kgl_servicekit.database.engine import Database, OutcomeUnknown
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events import positions
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.delivery import decode
from kgl_servicekit.events.redrive import Redriver
from kgl_servicekit.events.settle import Batch, settle
from kgl_servicekit.events.subscription import DONE, Event, Subscription, Verdict
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.counter import count
from kgl_servicekit.testing.events import (
    WORKSPACE,
    Handler,
    consumed,
    consumed_events,
    held,
    held_key_count,
    record,
    running,
)
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import Roles
from kgl_servicekit.testing.races import held_open, waiting_for_locks


@pytest.fixture
async def other(roles: Roles) -> AsyncIterator[Connection]:
    """A transaction that holds locks for as long as a test wants, and changes nothing."""
    connection = await asyncpg.connect(roles.service)
    await connection.execute("begin")
    yield connection
    await connection.close()


async def _consume(database: Database, bus: MemoryBus, handler: Handler, effects: int) -> None:
    """Let the subscription take what is on the bus, until so many events have had their effect."""

    async def done() -> bool:
        return len(await consumed_events(database)) == effects

    async with running(SubscriptionRunner(database, bus, handler.subscription).run):
        await eventually(done)


async def _batch(bus: MemoryBus, subscription: Subscription, document: UUID, sequence: int) -> Batch:
    """One more event at the end of its partition, as a batch of its own."""
    ack = bus.append(record(document, sequence))
    (stored,) = bus.log(DOCUMENTS.name, ack.partition)[ack.offset :]
    incarnation = await bus.incarnation(DOCUMENTS.name)
    return Batch(incarnation, ack.partition, ack.offset, ack.offset + 1, [decode(subscription, stored)])


async def test_an_event_that_comes_again_while_its_gap_is_closed_has_one_effect(
    database: Database, bus: MemoryBus, roles: Roles, other: Connection
) -> None:
    handler, document = Handler(), uuid7()
    for sequence in (1, 3):
        bus.append(record(document, sequence))
    await _consume(database, bus, handler, 1)
    bus.append(record(document, 2))
    await _consume(database, bus, handler, 2)
    batch = await _batch(bus, handler.subscription, document, 3)
    redriver = Redriver(database, handler.subscription)
    await other.execute("select from held_event for update")
    closing = asyncio.create_task(redriver.work_off())
    await waiting_for_locks(roles.service)  # it has taken the key
    settling = asyncio.create_task(database.run(WORKSPACE, settle, (handler.subscription, batch)))
    await waiting_for_locks(roles.service, 2)
    await other.execute("rollback")
    await asyncio.gather(closing, settling)
    await redriver.work_off()
    assert await held(database) == []
    assert await held_key_count(database) == 0
    assert handler.seen == [(document, 1), (document, 2), (document, 3)]


async def test_two_redrivers_that_list_an_event_at_the_same_time_count_one_attempt(
    database: Database, bus: MemoryBus, roles: Roles, other: Connection
) -> None:
    handler, document = Handler(attempts=2), uuid7()
    handler.fail = {1}
    bus.append(record(document, 1))
    async with running(SubscriptionRunner(database, bus, handler.subscription).run):
        await eventually(lambda: held(database))
    handler.fail = set()
    await eventually(lambda: _due(database))
    await other.execute("select from held_key for update")
    both = [asyncio.create_task(Redriver(database, handler.subscription).work_off()) for _ in range(2)]
    await waiting_for_locks(roles.service, 2)
    await other.execute("rollback")
    assert await asyncio.gather(*both) == [1, 1]
    assert await held(database) == []
    assert handler.seen == [(document, 1)]


class _LosesAnAnswer(Database):
    """The connection breaks while the second commit is answered: it is done, and nobody here knows."""

    _left = 2

    async def _commit(self, connection: Connection) -> None:
        await super()._commit(connection)
        self._left -= 1
        if self._left == 0:
            raise OutcomeUnknown(retry_after=1)


async def test_an_attempt_that_was_counted_without_an_answer_and_not_made_is_given_back(
    database: Database, bus: MemoryBus, roles: Roles
) -> None:
    handler, document = Handler(attempts=2), uuid7()
    handler.fail = {1}
    bus.append(record(document, 1))
    async with running(SubscriptionRunner(database, bus, handler.subscription).run):
        await eventually(lambda: held(database))
    handler.fail = set()
    await eventually(lambda: _due(database))
    lossy = _LosesAnAnswer(roles.service, service="counter")
    await lossy.start()
    redriver = Redriver(lossy, handler.subscription)
    with pytest.raises(OutcomeUnknown):
        await redriver.work_off()
    assert (await held(database))[0]["attempts"] == 2
    assert await redriver.work_off() == 1
    await lossy.stop()
    assert await held(database) == []
    assert handler.seen == [(document, 1)]


async def _due(database: Database) -> bool:
    async def look(tx: Transaction, _: None) -> bool:
        due: bool = await tx.fetchval("select next_at <= now() from held_event")
        return due

    return await database.run((), look, None)


@pytest.mark.parametrize("settled", [0, 1])
async def test_consumers_of_two_lives_of_a_topic_give_an_event_one_effect(
    database: Database, bus: MemoryBus, roles: Roles, settled: int
) -> None:
    subscription, document = Subscription("counter.documents", topic=DOCUMENTS), uuid7()

    @subscription.on(DocumentDeleted)
    async def on_deleted(tx: Transaction, event: Event[DocumentDeleted]) -> Verdict:
        await count(tx, f"consumed {event.key}")
        return DONE

    await _read_life(database, bus, subscription, document, settled)
    zombie = await _batch(bus, subscription, document, settled + 1)
    bus.forget(DOCUMENTS.name)
    await _read_life(database, bus, subscription, document, settled)
    living = await _batch(bus, subscription, document, settled + 1)
    async with held_open(database, WORKSPACE, settle, (subscription, zombie)) as first:
        second = asyncio.create_task(database.run(WORKSPACE, settle, (subscription, living)))
        await waiting_for_locks(roles.service)
    await first
    assert await second == {"duplicate": 1}
    assert await consumed(database, document) == settled + 1


async def _read_life(
    database: Database, bus: MemoryBus, subscription: Subscription, document: UUID, settled: int
) -> None:
    """Let the subscription begin in a life of the topic, and settle so many events of it."""
    for sequence in range(1, settled + 1):
        bus.append(record(document, sequence))
    incarnation = await bus.incarnation(DOCUMENTS.name)

    async def position(tx: Transaction, _: None) -> int | None:
        sql = "select sum(next)::int from consumer_position where incarnation = $1"
        at: int | None = await tx.fetchval(sql, incarnation)
        return at

    async def read() -> bool:
        return await database.run((), position, None) == settled

    async with running(SubscriptionRunner(database, bus, subscription).run):
        await eventually(read)


async def test_a_position_that_moves_while_the_end_of_the_log_is_asked_for_is_not_lost(database: Database) -> None:
    place = positions.Place("counter.documents", DOCUMENTS.name, "life", [0])
    await database.run((), positions.assign, (place, {}, {0: 0}, {0: 0}))

    async def move(tx: Transaction, to: int) -> None:
        await tx.execute("update consumer_position set next = $1", to)

    await database.run((), move, 1)
    stored = await database.run((), positions.load, place)
    await database.run((), move, 4)
    moved = await database.run((), positions.assign, (place, stored, {0: 0}, {0: 2}))
    assert (moved[0].next, moved[0].lost) == (4, None)
    stored = await database.run((), positions.load, place)
    lost = await database.run((), positions.assign, (place, stored, {0: 0}, {0: 2}))
    assert (lost[0].next, lost[0].lost) == (0, 4)
