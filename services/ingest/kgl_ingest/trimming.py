"""What is listed is forgotten some time after its end: receipts, and dead letters that were settled."""

from functools import partial

from kgl_ingest.db import dead_letters, operations
from kgl_servicekit.database.engine import Database
from kgl_servicekit.waiting import repeat

SETTLED_DAYS = 30
_EVERY = 3600.0
_AT_ONCE = 500


async def forget_letters(database: Database) -> None:
    """Every hour, until cancelled."""
    forget = partial(database.run, (), dead_letters.trim, SETTLED_DAYS)
    await repeat(forget, _EVERY, postponed="dead_letters.trim_postponed")


async def forget_receipts(database: Database, days: int) -> None:
    """Every hour, until cancelled."""
    await repeat(partial(trim_receipts, database, days), _EVERY, postponed="receipts.trim_postponed")


async def trim_receipts(database: Database, days: int, at_once: int = _AT_ONCE) -> None:
    """Forget those that ended so many days ago, a few in each transaction, so that no report waits for long."""
    while await database.run((), operations.trim, (days, at_once)) == at_once:
        pass
