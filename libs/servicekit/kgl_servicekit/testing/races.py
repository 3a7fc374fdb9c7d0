"""Two transactions at the same time, in an order that is always the same."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
from prometheus_client import REGISTRY

from kgl_servicekit.database.connection import Connection
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.testing.polling import eventually

C = TypeVar("C")
R = TypeVar("R")
S = TypeVar("S")

_WAITING = """
select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
"""


@asynccontextmanager
async def held_open(
    database: Database,
    workspaces: UUID | Iterable[UUID],
    use_case: Callable[[Transaction, C], Awaitable[R]],
    command: C,
) -> AsyncIterator["asyncio.Future[R]"]:
    """Run a use case, whose transaction commits only when the block is left; the future is its result."""
    did, may_commit = asyncio.Event(), asyncio.Event()

    async def slowly(tx: Transaction, command: C) -> R:
        result = await use_case(tx, command)
        did.set()
        await may_commit.wait()
        return result

    running, done = (
        asyncio.ensure_future(database.run(workspaces, slowly, command)),
        asyncio.ensure_future(did.wait()),
    )
    await asyncio.wait({running, done}, return_when=asyncio.FIRST_COMPLETED)
    done.cancel()
    try:
        yield running
    finally:
        may_commit.set()


async def overlapping(
    database: Database,
    workspaces: UUID | Iterable[UUID],
    use_case: Callable[[Transaction, C], Awaitable[R]],
    command: C,
    later: Coroutine[Any, Any, S],
) -> tuple[R, S]:
    """Run a use case whose transaction commits when `later`, begun after it, waits for one of its locks or is done."""
    async with held_open(database, workspaces, use_case, command) as earlier:
        following = asyncio.ensure_future(later)

        async def waits() -> bool:
            return following.done() or await database.run((), _waiting, None) > 0

        await eventually(waits)
    return await earlier, await following


async def until_waiting(database: Database, transactions: int = 1) -> None:
    """Return when so many transactions of the database wait for a lock."""

    async def so_many() -> bool:
        return await database.run((), _waiting, None) >= transactions

    await eventually(so_many, what=f"{transactions} transactions that wait for a lock were not there")


async def _waiting(tx: Transaction, _: None) -> int:
    count: int = await tx.fetchval(_WAITING)
    return count


def repeats(database: Database) -> float:
    """How many transactions of the service were repeated so far in this process, as after a deadlock."""
    return REGISTRY.get_sample_value("kgl_transaction_retries_total", {"service": database.service}) or 0.0


async def waiting_for_locks(dsn: str, expected: int = 1) -> None:
    """Return when so many sessions of the role's database wait for a lock."""
    connection: Connection = await asyncpg.connect(dsn)

    async def so_many() -> bool:
        return bool(await connection.fetchval(_WAITING) == expected)

    try:
        await eventually(so_many, what=f"{expected} sessions that wait for a lock were not there")
    finally:
        await connection.close()
