"""What is held, counted from time to time: for dashboards and alerts."""

import time
from collections.abc import Sequence

import asyncpg

from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.metrics import DEAD_LETTER_OLDEST, DEAD_LETTERS, HELD_EVENTS

_COUNT = """
select subscription, case when state = 'dead' then reason end as dead, count(*) as events,
       extract(epoch from now() - min(last_at))::float8 as oldest
from held_event where subscription = any($1::text[]) group by 1, 2
"""


async def _counted(tx: Transaction, subscriptions: Sequence[str]) -> list[asyncpg.Record]:
    return await tx.fetch(_COUNT, subscriptions)


class HeldMetrics:
    """Samples the held events of subscriptions, at most every `every` seconds."""

    def __init__(self, database: Database, subscriptions: Sequence[str], every: float = 15.0) -> None:
        self._database = database
        self._subscriptions = list(subscriptions)
        self._every = every
        self._next = 0.0
        self._reasons: set[tuple[str, str]] = set()

    async def sample(self) -> bool:
        """Count, if it is time to; whether it was. What is not there any more counts as 0."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + self._every
        rows = await self._database.run((), _counted, self._subscriptions)
        waiting = dict.fromkeys(self._subscriptions, 0)
        oldest = dict.fromkeys(self._subscriptions, 0.0)
        dead = dict.fromkeys(self._reasons, 0)
        for row in rows:
            name, reason = row["subscription"], row["dead"]
            if reason is None:
                waiting[name] = row["events"]
            else:
                dead[name, reason] = row["events"]
                oldest[name] = max(oldest[name], row["oldest"])
        self._reasons |= dead.keys()
        for name in self._subscriptions:
            HELD_EVENTS.labels(name).set(waiting[name])
            DEAD_LETTER_OLDEST.labels(name).set(oldest[name])
        for (name, reason), events in dead.items():
            DEAD_LETTERS.labels(name, reason).set(events)
        return True
