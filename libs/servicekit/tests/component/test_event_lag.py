"""How far a subscription is behind: what nobody has consumed counts, and nothing when all is settled."""

from prometheus_client import REGISTRY

from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.lag import measure_lag
from kgl_servicekit.events.relay import Relay
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.counter import count_and_tell
from kgl_servicekit.testing.events import WORKSPACE, Handler, running
from kgl_servicekit.testing.polling import eventually


async def test_what_is_not_settled_counts_over_all_partitions_until_it_is(database: Database, bus: MemoryBus) -> None:
    subscription = Handler().subscription

    async def lag() -> float | None:
        await measure_lag(database, bus, [subscription])
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
