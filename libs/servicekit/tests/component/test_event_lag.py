"""How far a subscription is behind, and that one which does not move is told of."""

from collections.abc import Awaitable, Callable

from prometheus_client import REGISTRY

from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.lag import LagWatch
from kgl_servicekit.events.relay import Relay
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.counter import count_and_tell
from kgl_servicekit.testing.events import WORKSPACE, Handler, record, running
from kgl_servicekit.testing.polling import eventually


async def test_what_is_not_settled_counts_over_all_partitions_until_it_is(database: Database, bus: MemoryBus) -> None:
    subscription = Handler().subscription

    watch = LagWatch()

    async def lag() -> float | None:
        await watch.measure(database, bus, [subscription])
        return REGISTRY.get_sample_value("kgl_consumer_lag_events", {"subscription": subscription.name})

    async def is_now(events: int) -> bool:
        return await lag() == events

    assert await lag() == 0
    async with running(Relay(database, bus, worker="a").run):
        for _ in range(5):
            await database.run(WORKSPACE, count_and_tell, uuid7())
        await eventually(lambda: is_now(5))
        async with running(SubscriptionRunner(database, bus, subscription).run):
            await eventually(lambda: is_now(0))
        await database.run(WORKSPACE, count_and_tell, uuid7())
        await eventually(lambda: is_now(1))


async def test_one_that_is_behind_and_does_not_move_is_told_of_until_it_does(
    database: Database, bus: MemoryBus
) -> None:
    handler = Handler()
    watch = LagWatch(patience=0.0)

    async def still() -> bool:
        await watch.measure(database, bus, [handler.subscription])
        try:
            await watch.check()
        except Unavailable as told:
            return handler.subscription.name in str(told)
        return False

    assert not await still()  # nothing waits
    bus.append(record(uuid7(), 1))
    assert await still()
    bus.append(record(uuid7(), 1))
    assert await still()  # more comes, and nothing is settled
    async with running(SubscriptionRunner(database, bus, handler.subscription).run):
        await eventually(lambda: _not(still))


async def _not(question: Callable[[], Awaitable[bool]]) -> bool:
    return not await question()


async def test_one_that_is_behind_has_patience_while_it_moves(database: Database, bus: MemoryBus) -> None:
    handler, document = Handler(), uuid7()
    watch = LagWatch(patience=3600.0)
    bus.append(record(document, 1))
    for _ in range(3):
        await watch.measure(database, bus, [handler.subscription])
        await watch.check()
