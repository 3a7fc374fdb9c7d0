"""From a committed effect over outbox, relay and bus to a consumer's committed effect, and what goes wrong there."""

import asyncio
from collections.abc import Awaitable

import asyncpg

from kgl_contracts.topics import DOCUMENTS
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.bus.port import Record
from kgl_servicekit.database.engine import Database
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.redrive import Redriver
from kgl_servicekit.events.relay import Relay
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.counter import count_and_tell
from kgl_servicekit.testing.events import WORKSPACE, Handler, consumed, held, held_key_count, record, running
from kgl_servicekit.testing.polling import eventually


async def test_every_committed_event_is_consumed_once_and_in_order(database: Database, bus: MemoryBus) -> None:
    handler = Handler()
    documents = [uuid7() for _ in range(5)]
    runner = SubscriptionRunner(database, bus, handler.subscription)
    async with running(Relay(database, bus, worker="w").run, runner.run):
        for _ in range(10):
            await asyncio.gather(*(database.run(WORKSPACE, count_and_tell, document) for document in documents))
        for document in documents:
            await eventually(lambda document=document: _equals(consumed(database, document), 10))
    for document in documents:
        assert [version for key, version in handler.seen if key == document] == list(range(1, 11))


async def _equals(value: Awaitable[int], expected: int) -> bool:
    return await value == expected


async def test_what_comes_twice_has_one_effect(database: Database, bus: MemoryBus) -> None:
    handler, document = Handler(), uuid7()
    for sequence in (1, 1, 2, 1, 2, 3, 3):
        bus.append(record(document, sequence))
    async with running(SubscriptionRunner(database, bus, handler.subscription).run):
        await eventually(lambda: _equals(consumed(database, document), 3))
        await eventually(lambda: _is(len(bus.committed) == 1))
    assert [version for _, version in handler.seen] == [1, 2, 3]


async def _is(value: bool) -> bool:
    return value


async def test_a_failing_event_holds_its_key_alone_and_is_tried_until_it_works(
    database: Database, bus: MemoryBus
) -> None:
    handler, ill, well = Handler(), uuid7(), uuid7()
    handler.fail = {2}
    for sequence in (1, 2, 3):
        bus.append(record(ill, sequence))
        bus.append(record(well, sequence, version=sequence + 10))
    runner, redriver = (
        SubscriptionRunner(database, bus, handler.subscription),
        Redriver(database, handler.subscription, interval=0.02),
    )
    async with running(runner.run, redriver.run):
        await eventually(lambda: _equals(consumed(database, well), 3))
        await eventually(lambda: _equals(consumed(database, ill), 1))
        waiting = await eventually(lambda: _two(database))
        assert [(row["sequence"], row["reason"]) for row in waiting] == [(2, "failed"), (3, "behind")]
        handler.fail = set()
        await eventually(lambda: _equals(consumed(database, ill), 3))
    assert [version for key, version in handler.seen if key == ill][-3:] == [1, 2, 3]
    assert await held(database) == []
    assert await held_key_count(database) == 0


async def test_an_event_that_never_works_is_dead_after_its_attempts_and_keeps_its_key(
    database: Database, bus: MemoryBus
) -> None:
    handler, document = Handler(attempts=3), uuid7()
    handler.fail = {1}
    bus.append(record(document, 1))
    bus.append(record(document, 2))
    redriver = Redriver(database, handler.subscription, interval=0.02)
    async with running(SubscriptionRunner(database, bus, handler.subscription).run, redriver.run):
        await eventually(lambda: _dead(database))
    rows = await held(database)
    assert [(row["state"], row["attempts"]) for row in rows] == [("dead", 3), ("waiting", 0)]
    assert "version 1 hurts" in rows[0]["error"]
    assert handler.seen == []


async def _dead(database: Database) -> bool:
    rows = await held(database)
    return bool(rows) and rows[0]["state"] == "dead"


async def test_a_rejected_or_unreadable_event_is_dead_at_once_with_its_reason(
    database: Database, bus: MemoryBus
) -> None:
    handler, first, second, third = Handler(), uuid7(), uuid7(), uuid7()
    handler.reject = {1}
    bus.append(record(first, 1))
    bus.append(record(second, 1, value=b"{"))
    broken = record(third, 1)
    bus.append(Record(topic=broken.topic, key=broken.key, headers={"ce_id": "x"}, value=broken.value))
    async with running(SubscriptionRunner(database, bus, handler.subscription).run):
        rows = await eventually(lambda: _three(database))
    assert {row["key"]: row["reason"] for row in rows} == {
        str(first): "rejected",
        str(second): "unreadable",
        str(third): "unreadable",
    }
    assert {row["state"] for row in rows} == {"dead"}
    assert all(row["error"] for row in rows)


async def _three(database: Database) -> list[asyncpg.Record]:
    rows = await held(database)
    return rows if len(rows) == 3 else []


async def test_a_gap_waits_for_the_missing_event_and_closes_in_order(database: Database, bus: MemoryBus) -> None:
    handler, document = Handler(), uuid7()
    for sequence in (1, 3, 4):
        bus.append(record(document, sequence))
    redriver = Redriver(database, handler.subscription, interval=0.02)
    async with running(SubscriptionRunner(database, bus, handler.subscription).run, redriver.run):
        rows = await eventually(lambda: _two(database))
        assert {row["reason"] for row in rows} == {"gap"}
        await bus.producer().send([record(document, 2)])
        await eventually(lambda: _equals(consumed(database, document), 4))
    assert [version for _, version in handler.seen] == [1, 2, 3, 4]
    assert await held_key_count(database) == 0


async def _two(database: Database) -> list[asyncpg.Record]:
    rows = await held(database)
    return rows if len(rows) == 2 else []


async def test_a_gap_that_is_never_closed_is_dead_after_its_patience(database: Database, bus: MemoryBus) -> None:
    handler, document = Handler(gap_patience=0.05), uuid7()
    bus.append(record(document, 2))
    redriver = Redriver(database, handler.subscription, interval=0.02)
    async with running(SubscriptionRunner(database, bus, handler.subscription).run, redriver.run):
        await eventually(lambda: _dead(database))
    assert handler.seen == []


async def test_an_outage_of_the_bus_pauses_and_loses_nothing(database: Database, bus: MemoryBus) -> None:
    handler, document = Handler(), uuid7()
    runner = SubscriptionRunner(database, bus, handler.subscription)
    async with running(Relay(database, bus, worker="w").run, runner.run):
        await database.run(WORKSPACE, count_and_tell, document)
        await eventually(lambda: _equals(consumed(database, document), 1))
        bus.out = True
        for _ in range(5):
            await database.run(WORKSPACE, count_and_tell, document)
        assert await consumed(database, document) == 1
        bus.out = False
        await eventually(lambda: _equals(consumed(database, document), 6))
    assert [version for _, version in handler.seen] == [1, 2, 3, 4, 5, 6]


async def test_two_workers_share_the_partitions_and_a_new_one_goes_on_where_the_old_ended(
    database: Database, bus: MemoryBus
) -> None:
    handler = Handler()
    documents = [uuid7() for _ in range(20)]

    async def all_at(expected: int) -> bool:
        return all([await consumed(database, document) == expected for document in documents])

    first, second = (SubscriptionRunner(database, bus, handler.subscription) for _ in range(2))
    async with running(first.run, second.run):
        await bus.producer().send([record(document, 1) for document in documents])
        await eventually(lambda: all_at(1))
    async with running(SubscriptionRunner(database, bus, handler.subscription).run):
        await bus.producer().send([record(document, 2) for document in documents])
        await eventually(lambda: all_at(2))
    assert len(handler.seen) == 40


async def test_two_relays_divide_the_shards_and_take_over_from_one_that_ended(
    database: Database, bus: MemoryBus
) -> None:
    documents = [uuid7() for _ in range(30)]

    async def sent() -> int:
        return sum((await bus.end_offsets(DOCUMENTS.name)).values())

    first, second = Relay(database, bus, worker="a", lease=0.6), Relay(database, bus, worker="b", lease=0.6)
    async with running(second.run):
        async with running(first.run):
            for document in documents:
                await database.run(WORKSPACE, count_and_tell, document)
            await eventually(lambda: _equals(sent(), 30))
        for document in documents:
            await database.run(WORKSPACE, count_and_tell, document)
        await eventually(lambda: _equals(sent(), 60))
    for partition in range(DOCUMENTS.partitions):
        last: dict[str, int] = {}
        for stored in bus.log(DOCUMENTS.name, partition):
            sequence = int(stored.headers["ce_sequence"])
            assert sequence == last.get(stored.key, 0) + 1
            last[stored.key] = sequence
