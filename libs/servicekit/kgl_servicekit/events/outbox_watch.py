"""What waits in the outbox, counted from time to time beside the relay: a relay that stands still tells of nothing."""

import asyncio
from dataclasses import dataclass

from loguru import logger

from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.metrics import OUTBOX_OLDEST, OUTBOX_PENDING

_EVERY = 15.0
_COUNT = "select count(*) as events, extract(epoch from now() - min(logged_at))::float8 as oldest from outbox_pending"


@dataclass(frozen=True, slots=True)
class Pending:
    """How many events wait, and for how many seconds the oldest does."""

    events: int
    oldest: float


async def pending(tx: Transaction, _: None) -> Pending:
    """What waits now."""
    row = await tx.fetchrow(_COUNT)
    assert row is not None
    return Pending(row["events"], row["oldest"] or 0.0)


async def watch_outbox(database: Database) -> None:
    """Measure until cancelled; during an outage of the database the last measures stay."""
    while True:
        try:
            now = await database.run((), pending, None)
            OUTBOX_PENDING.labels(database.service).set(now.events)
            OUTBOX_OLDEST.labels(database.service).set(now.oldest)
        except Unavailable as out:
            logger.bind(service=database.service, error=str(out)).debug("outbox.not_measured")
        await asyncio.sleep(_EVERY)
