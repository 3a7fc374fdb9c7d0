"""The loop that shows what does not get on: the oldest unfinished operation, and stages past their deadline."""

from functools import partial

import asyncpg

from kgl_ingest.metrics import OVERDUE, UNFINISHED_OLDEST
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.waiting import repeat

_EVERY = 15.0


async def watch_unfinished(database: Database) -> None:
    """Sample every 15 s, until cancelled."""
    await repeat(partial(sample_unfinished, database), _EVERY, postponed="unfinished.not_sampled", level="DEBUG")


async def sample_unfinished(database: Database) -> None:
    """Set the metrics, over all workspaces."""
    found = await database.run((), _unfinished, None)
    UNFINISHED_OLDEST.set(found["oldest_seconds"] or 0.0)
    OVERDUE.clear()
    for stage, many in found["overdue"].items():
        OVERDUE.labels(stage).set(many)


async def _unfinished(tx: Transaction, _: None) -> asyncpg.Record:
    row = await tx.fetchrow("select * from kgl_unfinished()")
    assert row is not None
    return row
