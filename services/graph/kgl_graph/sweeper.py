"""The loop that leaves no request to a module stuck: leases and deadlines that are over."""

import asyncio
from uuid import UUID

from loguru import logger

from kgl_graph.use_cases.answer_request import sweep
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Unavailable


async def sweep_requests(database: Database, every: float) -> None:
    """Sweep until cancelled."""
    while True:
        try:
            workspaces = await database.run((), _overdue, None)
            if workspaces:
                await database.run(workspaces, sweep, None, reporter="graph/sweeper/0")
        except Unavailable as out:
            logger.bind(error=str(out)).warning("sweeper.paused")
        await asyncio.sleep(every)


async def _overdue(tx: Transaction, _: None) -> list[UUID]:
    found: list[UUID] = await tx.fetchval("select kgl_overdue_workspaces()")
    return found
