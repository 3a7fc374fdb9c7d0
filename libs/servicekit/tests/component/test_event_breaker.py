"""A subscription that refuses too much stands still for a time instead of filling the dead letters."""

import zlib
from collections.abc import Iterator
from uuid import UUID

import asyncpg
import pytest

from kgl_contracts.topics import DOCUMENTS
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.bus.port import Consumer
from kgl_servicekit.database.engine import Database
from kgl_servicekit.events.breaker import Breaker, TooManyRefused
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.ids import uuid7
from kgl_servicekit.metrics import CONSUMER_BREAKER
from kgl_servicekit.testing.events import Handler, consumed_events, held, record, running
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import Roles


def refused(breaker: Breaker, handled: int, wrong: int) -> bool:
    try:
        with breaker.settling(0):
            breaker.check(0, handled, wrong)
    except TooManyRefused:
        return True
    return False


def test_a_fifth_of_a_hundred_is_allowed_and_one_more_is_not() -> None:
    breaker = Breaker(0.2)
    assert not refused(breaker, 80, 20)
    assert refused(breaker, 1, 1)
    assert not refused(breaker, 100, 0)
    assert not refused(breaker, 1, 1)


def test_a_small_share_of_a_large_batch_is_allowed() -> None:
    assert not refused(Breaker(0.2), 500, 100)
    assert refused(Breaker(0.2), 500, 101)


def test_what_is_further_back_than_a_hundred_events_no_longer_counts() -> None:
    breaker = Breaker(0.2)
    for _ in range(20):
        assert not refused(breaker, 1, 1)
    for _ in range(100):
        assert not refused(breaker, 1, 0)
    assert not refused(breaker, 1, 1)


def test_no_more_is_remembered_than_the_window_whatever_comes() -> None:
    breaker = Breaker(0.2)
    for number in range(500):
        assert not refused(breaker, number % 2, 0)
    assert len(breaker._batches) <= 100


def test_partitions_that_are_settled_at_the_same_time_do_not_pass_the_share_together() -> None:
    breaker = Breaker(0.2)
    with breaker.settling(1):
        breaker.check(1, 15, 15)
        breaker.check(1, 15, 15)  # the transaction is tried again
        assert refused(breaker, 6, 6)
        assert not refused(breaker, 5, 5)
    assert refused(breaker, 1, 1)


def test_what_was_rolled_back_does_not_count() -> None:
    breaker = Breaker(0.2)
    with pytest.raises(RuntimeError), breaker.settling(1):
        breaker.check(1, 20, 20)
        raise RuntimeError
    assert not refused(breaker, 20, 20)


async def test_a_topic_that_cannot_be_handled_is_not_turned_into_dead_letters(
    database: Database, bus: MemoryBus
) -> None:
    handler = Handler()
    handler.reject = {7}
    for _ in range(300):
        bus.append(record(uuid7(), 1, version=7))
    runner = SubscriptionRunner(database, bus, handler.subscription, breaker_pause=0.01)
    async with running(runner.run):
        await eventually(lambda: _open(True))
        assert len(await held(database)) <= 20
        handler.reject = set()
        await eventually(lambda: _all_there(database, 300))
        await eventually(lambda: _open(False))
    assert sum(len(bus.log(DOCUMENTS.name, n)) for n in range(DOCUMENTS.partitions)) == 300


async def _open(expected: bool) -> bool:
    return bool(CONSUMER_BREAKER.labels("counter.documents")._value.get() == expected)


async def _all_there(database: Database, expected: int) -> bool:
    return len(await consumed_events(database)) + len(await held(database)) == expected


async def test_a_subscription_may_allow_all_refusals(database: Database, bus: MemoryBus) -> None:
    handler = Handler(reject_share=1.0)
    handler.reject = {7}
    for _ in range(60):
        bus.append(record(uuid7(), 1, version=7))
    async with running(SubscriptionRunner(database, bus, handler.subscription).run):
        await eventually(lambda: _held(database, 60))


async def _held(database: Database, expected: int) -> bool:
    return len(await held(database)) == expected


class Stepping(SubscriptionRunner):
    """Notes at each pause how many events are held, and goes on at once."""

    stands: list[int]

    async def _stand_still(self, _consumer: Consumer, _seconds: float) -> None:
        assert await _open(True)
        self.stands.append(len(await held(self._database)))


def _stepping(database: Database, bus: MemoryBus, handler: Handler) -> Stepping:
    runner = Stepping(database, bus, handler.subscription)
    runner.stands = []
    return runner


def _documents_of_one_partition() -> Iterator[UUID]:
    while True:
        document = uuid7()
        if zlib.crc32(str(document).encode()) % DOCUMENTS.partitions == 0:
            yield document


async def test_after_each_pause_as_many_become_dead_letters_as_trip_it_and_the_healthy_get_through(
    database: Database, bus: MemoryBus
) -> None:
    handler, documents = Handler(), _documents_of_one_partition()
    handler.reject = {7}
    for number in range(130):  # all in one batch
        bus.append(record(next(documents), 1, version=7))
        if number % 10 == 0:
            bus.append(record(next(documents), 1, version=1))
    runner = _stepping(database, bus, handler)
    async with running(runner.run):
        await eventually(lambda: _all_there(database, 143))
        await eventually(lambda: _open(False))
    assert runner.stands == [20, 40, 60, 80, 100, 120]
    assert len(await consumed_events(database)) == 13
    assert {(row["state"], row["reason"]) for row in await held(database)} == {("dead", "rejected")}


async def test_what_follows_a_refused_event_of_its_key_is_parked_behind_it_over_pauses(
    database: Database, bus: MemoryBus
) -> None:
    handler, documents = Handler(), [uuid7() for _ in range(50)]  # in all partitions
    handler.reject = {7}
    for document in documents:
        bus.append(record(document, 1, version=1))
        bus.append(record(document, 2, version=7))
        bus.append(record(document, 3, version=3))
    runner = _stepping(database, bus, handler)
    async with running(runner.run):
        await eventually(lambda: _all_there(database, 150))
    by_key: dict[str, list[tuple[int, str]]] = {str(document): [] for document in documents}
    for row in await held(database):
        by_key[row["key"]].append((row["sequence"], row["state"]))
    assert all(rows == [(2, "dead"), (3, "waiting")] for rows in by_key.values())
    assert runner.stands


async def test_a_killer_that_cannot_be_held_at_once_is_not_given_to_a_handler_again(
    database: Database, bus: MemoryBus, roles: Roles
) -> None:
    handler, killer = Handler(), uuid7()
    for number in range(20):
        handler.reject.add(100 + number)
        bus.append(record(uuid7(), 1, version=100 + number))
    async with running(SubscriptionRunner(database, bus, handler.subscription).run):
        await eventually(lambda: _held(database, 20))
    at = bus.append(record(killer, 1, version=1))
    bus.append(record(uuid7(), 1, version=100))
    runner = _stepping(database, bus, handler)
    with runner._breaker.settling(99):
        runner._breaker.check(99, 20, 20)
    owner = await asyncpg.connect(roles.superuser)
    await owner.execute(
        """update consumer_position set starts = 5, started_at = next, deaths = 3, in_flight = $2
           where partition = $1""",
        at.partition,
        at.offset,
    )
    await owner.close()
    async with running(runner.run):
        await eventually(lambda: _reason(database, killer, "quarantined"))
    assert runner.stands
    assert handler.seen == []


async def _reason(database: Database, document: UUID, reason: str) -> bool:
    return reason in {row["reason"] for row in await held(database) if row["key"] == str(document)}
