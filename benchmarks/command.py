"""What an event costs a command: `run` with one insert and `tx.emit`, against bare asyncpg without the event.

Both have the same begin, setting, statement and commit, on one connection each, and take turns one by one.
"""

import statistics
import time
from uuid import UUID, uuid4

import asyncpg

from benchmarks.harness import ROUNDS, Result, at_most, percentile
from kgl_contracts.ingest import DocumentDeleted
from kgl_servicekit.database.connection import Connection
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.testing.counter import MIGRATIONS
from kgl_servicekit.testing.postgres import PostgresForTests, temporary_postgres

COMMANDS = 300
MOST_MS = 0.2
MOST_SHARE = 1.1

_INSERT = "insert into counter (workspace_id, name, value) values ($1, $2, 1)"


async def measure() -> list[Result]:
    """The median of the rounds' p50, in milliseconds."""
    with temporary_postgres() as url:
        async with PostgresForTests(url).database(MIGRATIONS) as roles:
            database = Database(roles.service, service="counter")
            await database.start()
            connection: Connection = await asyncpg.connect(roles.service)
            try:
                rounds = [await _round(database, connection) for _ in range(ROUNDS + 1)][1:]
            finally:
                await connection.close()
                await database.stop()
    ours, bare = (statistics.median(side) for side in zip(*rounds, strict=True))
    return [at_most("command: p50 with an event", "ms", ours, max(bare + MOST_MS, bare * MOST_SHARE), bare)]


async def _round(database: Database, connection: Connection) -> tuple[float, float]:
    """p50 of both in milliseconds."""
    workspace, ours, bare = uuid4(), list[float](), list[float]()
    for _ in range(COMMANDS):
        start = time.perf_counter()
        await database.run(workspace, _count_and_tell, uuid4())
        between = time.perf_counter()
        await _count(connection, workspace, uuid4())
        ours.append((between - start) * 1000)
        bare.append((time.perf_counter() - between) * 1000)
    return percentile(ours, 0.5), percentile(bare, 0.5)


async def _count_and_tell(tx: Transaction, document: UUID) -> None:
    await tx.execute(_INSERT, tx.workspace, str(document))
    await tx.emit(DocumentDeleted(document_id=document, version=1))


async def _count(connection: Connection, workspace: UUID, document: UUID) -> None:
    await connection.execute(f"begin; set local kgl.workspaces = '{workspace}'")
    await connection.execute(_INSERT, workspace, str(document))
    await connection.execute("commit")
