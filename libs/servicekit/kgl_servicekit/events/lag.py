"""How far each subscription is behind the end of its topic: measured from time to time, for dashboards and alerts."""

import asyncio
from collections.abc import Sequence

from loguru import logger

from kgl_contracts.topics import Topic
from kgl_servicekit.bus.port import Bus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.events import positions
from kgl_servicekit.events.positions import Place
from kgl_servicekit.events.subscription import Subscription
from kgl_servicekit.metrics import CONSUMER_LAG

_EVERY = 15.0


async def watch_lag(database: Database, bus: Bus, subscriptions: Sequence[Subscription]) -> None:
    """Measure every 15 s, until cancelled; during an outage the last measures stay."""
    while True:
        try:
            await measure_lag(database, bus, subscriptions)
        except Unavailable as out:
            logger.bind(service=database.service, error=str(out)).debug("lag.not_measured")
        await asyncio.sleep(_EVERY)


async def measure_lag(database: Database, bus: Bus, subscriptions: Sequence[Subscription]) -> None:
    """Set the lag of each subscription, over all partitions and processes, from its stored positions."""
    for topic in sorted({subscription.topic for subscription in subscriptions}, key=lambda topic: topic.name):
        begins, ends = await asyncio.gather(bus.begin_offsets(topic.name), bus.end_offsets(topic.name))
        incarnation = await bus.incarnation(topic.name)
        for subscription in _on(topic, subscriptions):
            place = Place(subscription.name, topic.name, incarnation, sorted(ends))
            stored = await database.run((), positions.load, place)
            behind = (end - max(stored.get(partition, 0), begins.get(partition, 0)) for partition, end in ends.items())
            CONSUMER_LAG.labels(subscription.name).set(sum(max(0, events) for events in behind))


def _on(topic: Topic, subscriptions: Sequence[Subscription]) -> list[Subscription]:
    return [subscription for subscription in subscriptions if subscription.topic == topic]
