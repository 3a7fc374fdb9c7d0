"""What keeps the promise in the rare moments: outages in a handler, locks, and writes that fail half way."""

import asyncio

import asyncpg
import pytest

from kgl_contracts.ingest import DocumentDeleted
from kgl_contracts.topics import DOCUMENTS
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.delivery import decode
from kgl_servicekit.events.holds import lock_head
from kgl_servicekit.events.redrive import Redriver
from kgl_servicekit.events.relay import Relay
from kgl_servicekit.events.settle import Batch, PositionMoved, settle
from kgl_servicekit.events.subscription import DONE, Event, Subscription, Verdict
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.counter import count, count_and_tell
from kgl_servicekit.testing.events import WORKSPACE, Handler, consumed_events, held, held_key_count, record, running
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import Roles


async def test_an_outage_in_a_handler_is_waited_out_spends_no_attempt_and_loses_nothing(
    database: Database, bus: MemoryBus
) -> None:
    subscription, out = Subscription("counter.documents", topic=DOCUMENTS), [True] * 3

    @subscription.on(DocumentDeleted)
    async def on_deleted(tx: Transaction, event: Event[DocumentDeleted]) -> Verdict:
        await count(tx, f"{event.data.document_id}/{event.data.version}")
        if event.data.version == 2 and out:
            out.pop()
            raise Unavailable("the store is out", retry_after=1)
        return DONE

    document = uuid7()
    for sequence in (1, 2, 3):
        bus.append(record(document, sequence))
    async with running(SubscriptionRunner(database, bus, subscription).run):
        await eventually(lambda: _all(database, {f"{document}/{n}": 1 for n in (1, 2, 3)}))
    assert out == []
    assert await held(database) == []


async def _all(database: Database, expected: dict[str, int]) -> bool:
    return await consumed_events(database) == expected


async def test_an_outage_while_a_held_event_is_tried_gives_the_attempt_back(database: Database, bus: MemoryBus) -> None:
    handler, document = Handler(), uuid7()
    handler.fail = {1}
    bus.append(record(document, 1))
    async with running(SubscriptionRunner(database, bus, handler.subscription).run):
        await eventually(lambda: held(database))
    outage = [True]

    async def out_at_first(tx: Transaction, event: Event[DocumentDeleted]) -> Verdict:
        if outage:
            outage.pop()
            raise Unavailable("the database is out", retry_after=1)
        assert await tx.fetchval("select attempts from held_event") == 2  # the first one, and this one
        return DONE

    redriver = _with_handler(database, handler.subscription, out_at_first)
    await _due(database)
    with pytest.raises(Unavailable):
        await redriver.work_off()
    assert (await held(database))[0]["attempts"] == 2
    await redriver.work_off()
    assert await held_key_count(database) == 0


def _with_handler(database: Database, like: Subscription, handle: object) -> Redriver:
    subscription = Subscription(like.name, topic=like.topic, backoff=0.01, attempts=3)
    subscription.on(DocumentDeleted)(handle)  # type: ignore[type-var]
    return Redriver(database, subscription)


async def test_a_held_event_that_ends_its_workers_is_dead_when_its_attempts_are_spent(
    database: Database, bus: MemoryBus
) -> None:
    handler, document, entered = Handler(), uuid7(), asyncio.Event()
    handler.fail = {1}
    bus.append(record(document, 1))
    async with running(SubscriptionRunner(database, bus, handler.subscription).run):
        await eventually(lambda: held(database))

    async def hangs(_tx: Transaction, _event: Event[DocumentDeleted]) -> Verdict:
        entered.set()
        await asyncio.Event().wait()
        return DONE

    redriver = _with_handler(database, handler.subscription, hangs)
    for _ in range(2):
        await _due(database)
        dying = asyncio.create_task(redriver.work_off())
        await asyncio.wait_for(entered.wait(), 10)
        entered.clear()
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
    await _due(database)
    await redriver.work_off()
    (row,) = await held(database)
    assert (row["state"], row["attempts"]) == ("dead", 3)
    assert "ended the worker" in row["error"]


async def _due(database: Database) -> None:
    async def due(tx: Transaction, _: None) -> None:
        await tx.execute("update held_event set next_at = now()")

    await database.run((), due, None)


async def test_a_key_is_not_freed_while_an_event_is_being_parked_behind_it(
    database: Database, roles: Roles, bus: MemoryBus
) -> None:
    handler, document = Handler(), uuid7()
    handler.fail = {1}
    for sequence in (1, 2):
        bus.append(record(document, sequence))
    async with running(SubscriptionRunner(database, bus, handler.subscription).run):
        await eventually(lambda: _held(database, 2))
    first, second = await held(database)
    parking = await asyncpg.connect(roles.service)
    # the second event is not there yet, and a consumer that holds the key's lock is about to park it
    await parking.execute("delete from held_event")
    transaction = parking.transaction()
    await transaction.start()
    await parking.execute("select 1 from held_key where key = $1 for share", str(document))
    freeing = asyncio.create_task(database.run((), _free, (handler.subscription, str(document))))
    await eventually(lambda: _waits(roles))
    await parking.execute(
        """insert into held_event (subscription, topic, key, partition, "offset", sequence, epoch, event_id, type,
                                   state, reason, headers, value)
           values ($1, $2, $3, 0, $4, 2, 1, $5, $6, 'waiting', 'behind', '{}', '')""",
        second["subscription"],
        second["topic"],
        second["key"],
        second["offset"],
        second["event_id"],
        second["type"],
    )
    await transaction.commit()
    await parking.close()
    await freeing
    assert first["key"] == second["key"]
    assert await held_key_count(database) == 1


async def _held(database: Database, expected: int) -> bool:
    return len(await held(database)) == expected


async def _free(tx: Transaction, place: tuple[Subscription, str]) -> None:
    await lock_head(tx, *place)


async def _waits(roles: Roles) -> bool:
    superuser = await asyncpg.connect(roles.superuser)
    try:
        return bool(await superuser.fetchval("select count(*) from pg_stat_activity where wait_event_type = 'Lock'"))
    finally:
        await superuser.close()


async def test_a_relay_passes_no_earlier_event_of_a_key_that_somebody_has_locked(
    database: Database, roles: Roles, bus: MemoryBus
) -> None:
    document = uuid7()
    for _ in range(3):
        await database.run(WORKSPACE, count_and_tell, document)
    other = await asyncpg.connect(roles.service)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("select 1 from outbox_pending where id = (select min(id) from outbox_pending) for update")
    async with running(Relay(database, bus, worker="w").run):
        await eventually(lambda: _sent(bus))
        await transaction.rollback()
        await other.close()
    (log,) = [bus.log(DOCUMENTS.name, n) for n in range(DOCUMENTS.partitions) if bus.log(DOCUMENTS.name, n)]
    assert [stored.headers["ce_sequence"] for stored in log][:3] == ["1", "2", "3"]


async def _sent(bus: MemoryBus) -> bool:
    return sum((await bus.end_offsets(DOCUMENTS.name)).values()) > 0


async def test_without_a_place_for_its_event_an_effect_is_not_there_either(database: Database, roles: Roles) -> None:
    owner = await asyncpg.connect(roles.owner)
    for row in await owner.fetch(
        "select inhrelid::regclass::text as name from pg_inherits where inhparent = 'outbox_log'::regclass"
    ):
        await owner.execute(f"drop table {row['name']}")
    await owner.close()
    with pytest.raises(asyncpg.CheckViolationError):
        await database.run(WORKSPACE, count_and_tell, uuid7())

    async def counted(tx: Transaction, _: None) -> int:
        return int(await tx.fetchval("select count(*) from counter"))

    assert await database.run(WORKSPACE, counted, None) == 0


async def test_a_batch_that_does_not_begin_at_the_stored_position_is_refused_whole(
    database: Database, bus: MemoryBus
) -> None:
    handler, document = Handler(), uuid7()
    ack = bus.append(record(document, 1))
    async with running(SubscriptionRunner(database, bus, handler.subscription).run):
        await eventually(lambda: _all(database, {f"{document}/1": 1}))
    bus.append(record(document, 2))
    zombie = Batch(
        incarnation=await bus.incarnation(DOCUMENTS.name),
        partition=ack.partition,
        start=ack.offset,
        end=ack.offset + 2,
        deliveries=[decode(handler.subscription, r) for r in bus.log(DOCUMENTS.name, ack.partition)[ack.offset :]],
    )
    with pytest.raises(PositionMoved):
        await database.run(WORKSPACE, settle, (handler.subscription, zombie))
    assert await consumed_events(database) == {f"{document}/1": 1}
