"""What has to be done from time to time: partitions of the outbox, and rows that are of no use any more."""

import asyncio

import asyncpg
from loguru import logger

from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Unavailable

OUTBOX_DAYS = 7
INBOX_DAYS = 7
_AHEAD = 3

_DELETE = (
    "delete from idempotency_key where created_at < now() - interval '24 hours'",
    "delete from job where state in ('done', 'cancelled') and ended_at < now() - interval '7 days'",
    "delete from job where state = 'failed' and ended_at < now() - interval '30 days'",
)


async def tidy(tx: Transaction, days: int) -> None:
    """Make the partitions of the coming days, drop those older than `days`, delete what has expired."""
    await tx.fetchval("select kgl_outbox_partitions($1, $2)", _AHEAD, days)
    await tx.fetchval("select kgl_inbox_partitions($1, $2)", _AHEAD, INBOX_DAYS)
    for statement in _DELETE:
        await tx.execute(statement)


async def maintain(database: Database, every: float = 3600.0) -> None:
    """Tidy every hour, until cancelled; what fails once may work the next time."""
    while True:
        try:
            await database.run((), tidy, OUTBOX_DAYS)
        except Unavailable as out:
            logger.bind(service=database.service, error=str(out)).warning("maintenance.postponed")
        except asyncpg.PostgresError as error:
            logger.bind(service=database.service).opt(exception=error).error("maintenance.failed")
        await asyncio.sleep(every)
