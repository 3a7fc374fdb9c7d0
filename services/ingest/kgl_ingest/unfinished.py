"""What does not get on: the oldest unfinished operation, and stages past their deadline; shown and told."""

from functools import partial

import asyncpg

from kgl_ingest.metrics import OVERDUE, UNFINISHED_OLDEST
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.doctor.finding import Told, duration
from kgl_servicekit.waiting import repeat

_EVERY = 15.0
_OLD = 9 * 3600.0  # seconds, as the alert OperationUnfinished


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


async def _ids(tx: Transaction) -> dict[str | None, str]:
    """Some operations of each overdue stage in words; under None the oldest that have not ended."""
    rows = await tx.fetch("select * from kgl_unfinished_ids()")
    return {row["stage"]: ", ".join(str(id) for id in row["ids"]) for row in rows}


async def examine_operations(tx: Transaction, _: None) -> list[Told]:
    """For the doctor."""
    found, ids = await _unfinished(tx, None), await _ids(tx)
    told = [
        Told(
            f"{many} operations wait for {stage} past its deadline, such as {ids.get(stage, 'one just ended')}",
            "GET /operations/v1?state=running&overdue=true, for operators without Kgl-Workspace, shows who holds them; "
            "then the log of that worker",
        )
        for stage, many in sorted(found["overdue"].items())
    ]
    oldest = found["oldest_seconds"] or 0.0
    if oldest > _OLD:
        told.append(
            Told(
                f"an operation has not ended for {duration(oldest)}; the oldest are {ids.get(None, '')}",
                "GET /operations/v1/ID, for operators without Kgl-Workspace, names its open stages",
            )
        )
    return told
