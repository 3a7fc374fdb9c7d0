"""How far each subscription is behind the end of its topic, and whether it moves: looked at from time to time.

The lag is a metric; a subscription that is behind and does not move makes the workers of its service unready.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loguru import logger

from kgl_contracts.topics import Topic
from kgl_servicekit.bus.port import Bus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.events import positions
from kgl_servicekit.events.positions import Place
from kgl_servicekit.events.subscription import Subscription
from kgl_servicekit.metrics import CONSUMER_LAG, CONSUMER_STANDS_STILL

_EVERY = 15.0


@dataclass(frozen=True, slots=True)
class Lag:
    """Where a subscription is in each partition of its topic, and how many events are not settled there."""

    subscription: str
    at: Mapping[int, int]
    behind: Mapping[int, int]

    @property
    def events(self) -> int:
        """Over all partitions."""
        return sum(self.behind.values())


async def lags(database: Database, bus: Bus, subscriptions: Sequence[Subscription]) -> list[Lag]:
    """How far each subscription is, over all processes, by its stored positions. Raises Unavailable."""
    found = []
    for topic in sorted({subscription.topic for subscription in subscriptions}, key=lambda topic: topic.name):
        begins, ends = await asyncio.gather(bus.begin_offsets(topic.name), bus.end_offsets(topic.name))
        incarnation = await bus.incarnation(topic.name)
        for subscription in _on(topic, subscriptions):
            place = Place(subscription.name, topic.name, incarnation, sorted(ends))
            stored = await database.run((), positions.load, place)
            at = {partition: max(stored.get(partition, 0), begins.get(partition, 0)) for partition in ends}
            behind = {partition: max(0, end - at[partition]) for partition, end in ends.items()}
            found.append(Lag(subscription.name, at, behind))
    return found


@dataclass(frozen=True, slots=True)
class _Seen:
    """Where a subscription was in a partition, and since when (monotonic seconds)."""

    at: int
    since: float


class LagWatch:
    """Measures the subscriptions of a worker every 15 s; `check` raises while one of them stands still.

    That is one which has been behind in a partition for `patience` seconds without moving there, in whatever process.
    """

    def __init__(self, patience: float = 120.0) -> None:
        self._patience = patience
        self._seen: dict[tuple[str, int], _Seen] = {}
        self._still: set[str] = set()

    async def run(self, database: Database, bus: Bus, subscriptions: Sequence[Subscription]) -> None:
        """Measure until cancelled; during an outage the last measures stay, and nobody is blamed for it afterwards."""
        while True:
            try:
                await self.measure(database, bus, subscriptions)
            except Unavailable as out:
                self._seen.clear()
                logger.bind(service=database.service, error=str(out)).debug("lag.not_measured")
            await asyncio.sleep(_EVERY)

    async def measure(self, database: Database, bus: Bus, subscriptions: Sequence[Subscription]) -> None:
        """Set the lag of each subscription, over all partitions and processes, from its stored positions."""
        for lag in await lags(database, bus, subscriptions):
            CONSUMER_LAG.labels(lag.subscription).set(lag.events)
            self._note(lag.subscription, lag.at, lag.behind)

    def _note(self, subscription: str, at: Mapping[int, int], behind: Mapping[int, int]) -> None:
        now, still = time.monotonic(), 0
        for partition, position in at.items():
            seen = self._seen.get((subscription, partition))
            if seen is None or behind[partition] == 0 or seen.at != position:
                self._seen[subscription, partition] = _Seen(position, now)
            elif now - seen.since >= self._patience:
                still += behind[partition]
        CONSUMER_STANDS_STILL.labels(subscription).set(still)
        if not still:
            self._still.discard(subscription)
        elif subscription not in self._still:
            self._still.add(subscription)
            logger.bind(subscription=subscription, behind=still).error("consumer.stands_still")

    async def check(self) -> None:
        """Raise Unavailable for subscriptions that stand still."""
        if self._still:
            names = ", ".join(sorted(self._still))
            raise Unavailable(f"Events wait and nothing is settled by {names}; its log says why.", retry_after=_EVERY)


def _on(topic: Topic, subscriptions: Sequence[Subscription]) -> list[Subscription]:
    return [subscription for subscription in subscriptions if subscription.topic == topic]
