"""How far each subscription is behind the end of its topic, and whether it moves: looked at from time to time.

The lag is a metric; a subscription that is behind and does not move makes its worker unready.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class _Seen:
    """Where a subscription was, in events over all partitions, and since when (monotonic seconds)."""

    settled: int
    since: float


class LagWatch:
    """Measures the subscriptions of a worker every 15 s; `check` raises while one of them stands still.

    That is one which has been behind for `patience` seconds without settling an event, in whatever process.
    """

    def __init__(self, patience: float = 120.0) -> None:
        self._patience = patience
        self._seen: dict[str, _Seen] = {}
        self._still: set[str] = set()

    async def run(self, database: Database, bus: Bus, subscriptions: Sequence[Subscription]) -> None:
        """Measure until cancelled; during an outage the last measures stay."""
        while True:
            try:
                await self.measure(database, bus, subscriptions)
            except Unavailable as out:
                logger.bind(service=database.service, error=str(out)).debug("lag.not_measured")
            await asyncio.sleep(_EVERY)

    async def measure(self, database: Database, bus: Bus, subscriptions: Sequence[Subscription]) -> None:
        """Set the lag of each subscription, over all partitions and processes, from its stored positions."""
        for topic in sorted({subscription.topic for subscription in subscriptions}, key=lambda topic: topic.name):
            begins, ends = await asyncio.gather(bus.begin_offsets(topic.name), bus.end_offsets(topic.name))
            incarnation = await bus.incarnation(topic.name)
            for subscription in _on(topic, subscriptions):
                place = Place(subscription.name, topic.name, incarnation, sorted(ends))
                stored = await database.run((), positions.load, place)
                at = {partition: max(stored.get(partition, 0), begins.get(partition, 0)) for partition in ends}
                behind = sum(max(0, end - at[partition]) for partition, end in ends.items())
                CONSUMER_LAG.labels(subscription.name).set(behind)
                self._note(subscription.name, sum(at.values()), behind)

    def _note(self, subscription: str, settled: int, behind: int) -> None:
        seen, now = self._seen.get(subscription), time.monotonic()
        if seen is None or behind == 0 or seen.settled != settled:
            self._seen[subscription] = seen = _Seen(settled, now)
        if now - seen.since < self._patience or behind == 0:
            self._still.discard(subscription)
        elif subscription not in self._still:
            self._still.add(subscription)
            logger.bind(subscription=subscription, behind=behind).error("consumer.stands_still")

    async def check(self) -> None:
        """Raise Unavailable for subscriptions that stand still."""
        if self._still:
            names = ", ".join(sorted(self._still))
            raise Unavailable(f"Events wait and nothing is settled by {names}; its log says why.", retry_after=_EVERY)


def _on(topic: Topic, subscriptions: Sequence[Subscription]) -> list[Subscription]:
    return [subscription for subscription in subscriptions if subscription.topic == topic]
