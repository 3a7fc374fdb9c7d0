"""The loop that leaves no request to a module stuck: leases and deadlines that are over."""

from uuid import UUID

from kgl_graph.use_cases.answer_request import sweep
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.waiting import repeat


async def sweep_requests(database: Database, every: float) -> None:
    """Sweep until cancelled."""

    async def sweep_once() -> None:
        workspaces = await database.run((), _overdue, None)
        if workspaces:
            await database.run(workspaces, sweep, None, reporter="graph/sweeper/0")

    await repeat(sweep_once, every, postponed="sweeper.paused")


async def _overdue(tx: Transaction, _: None) -> list[UUID]:
    found: list[UUID] = await tx.fetchval("select kgl_overdue_workspaces()")
    return found
