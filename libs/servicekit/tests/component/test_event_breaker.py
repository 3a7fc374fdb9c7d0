"""A subscription that refuses too much stands still instead of filling the dead letters."""

from kgl_contracts.topics import DOCUMENTS
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.events.breaker import Breaker, TooManyRefused
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.ids import uuid7
from kgl_servicekit.metrics import CONSUMER_BREAKER
from kgl_servicekit.testing.events import Handler, consumed_events, held, record, running
from kgl_servicekit.testing.polling import eventually


def refused(breaker: Breaker, handled: int, wrong: int) -> bool:
    try:
        breaker.check(handled, wrong)
    except TooManyRefused:
        return True
    breaker.count(handled, wrong)
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
    return CONSUMER_BREAKER.labels("counter.documents")._value.get() == expected


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
