"""However a transaction ends, its connection is clean or gone, and the next one works."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest

from kgl_servicekit.database.engine import TRIES, Database, DatabaseUnavailable, OutcomeUnknown, UseCaseHangs
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.testing.counter import MIGRATIONS, count
from kgl_servicekit.testing.postgres import PostgresForTests, Roles


@pytest.fixture(scope="module")
async def roles(postgres: PostgresForTests) -> AsyncIterator[Roles]:
    async with postgres.database(MIGRATIONS) as roles:
        yield roles


@pytest.fixture
async def database(roles: Roles) -> AsyncIterator[Database]:
    database = Database(roles.service, service="counter", pool_size=1)
    await database.start()
    yield database
    await database.stop()


class Waiting:
    """A use case that counts, and then runs a statement that takes long, or waits outside of the database."""

    def __init__(self, statement: str | None) -> None:
        self.statement = statement
        self.began = asyncio.Event()

    async def __call__(self, tx: Transaction, name: str) -> None:
        await count(tx, name)
        self.began.set()
        if self.statement is None:
            await asyncio.Event().wait()
        else:
            await tx.execute(self.statement)


@pytest.mark.parametrize("statement", [None, "select pg_sleep(60)"])
async def test_a_cancelled_use_case_leaves_nothing_and_the_connection_serves_on(
    database: Database, statement: str | None
) -> None:
    workspace, waiting = uuid4(), Waiting(statement)
    task = asyncio.create_task(database.run(workspace, waiting, "cancelled"))
    await waiting.began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert await database.run(workspace, count, "cancelled") == 1


async def test_a_deadline_around_a_transaction_is_kept(database: Database) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await database.run(uuid4(), Waiting(None), "late")
    await database.ping()


async def test_a_connection_lost_before_the_commit_is_tried_again(database: Database) -> None:
    workspace, tries = uuid4(), list[int]()

    async def lose_once(tx: Transaction, name: str) -> int:
        value = await count(tx, name)
        tries.append(value)
        if len(tries) == 1:
            await tx.execute("select pg_terminate_backend(pg_backend_pid())")
        return value

    assert await database.run(workspace, lose_once, "lost") == 1
    assert tries == [1, 1]


async def test_a_connection_lost_at_the_commit_is_an_unknown_outcome_and_not_tried_again(
    database: Database, roles: Roles
) -> None:
    workspace, tries = uuid4(), list[int]()

    async def lose_at_the_end(tx: Transaction, name: str) -> None:
        tries.append(await count(tx, name))
        process = await tx.fetchval("select pg_backend_pid()")
        operator = await asyncpg.connect(roles.superuser)
        await operator.execute("select pg_terminate_backend($1, 5000)", process)
        await operator.close()

    with pytest.raises(OutcomeUnknown):
        await database.run(workspace, lose_at_the_end, "lost")
    assert tries == [1]
    assert await database.run(workspace, count, "lost") == 1


async def test_more_transactions_than_connections_take_turns(database: Database) -> None:
    workspace: UUID = uuid4()
    values = await asyncio.gather(*(database.run(workspace, count, "turns") for _ in range(5)))
    assert sorted(values) == [1, 2, 3, 4, 5]


async def test_a_use_case_that_hangs_is_cut_off_when_the_server_ends_its_transaction(database: Database) -> None:
    workspace = uuid4()
    async with asyncio.timeout(30):
        with pytest.raises(UseCaseHangs):
            await database.run(workspace, Waiting(None), "hanging")
    assert await database.run(workspace, count, "hanging") == 1


async def test_a_connection_that_is_lost_under_a_statement_is_no_use_case_that_hangs(
    database: Database, roles: Roles
) -> None:
    workspace, waiting = uuid4(), Waiting("select pg_sleep(60)")
    task = asyncio.create_task(database.run(workspace, waiting, "lost"))
    for _ in range(TRIES):
        await waiting.began.wait()
        waiting.began.clear()
        await _end_sleepers(roles)
    with pytest.raises(DatabaseUnavailable):
        await task


async def _end_sleepers(roles: Roles) -> None:
    """End the session that sleeps, once it does."""
    connection = await asyncpg.connect(roles.superuser)
    try:
        ended = False
        while not ended:
            rows = await connection.fetch(
                """select pg_terminate_backend(pid) from pg_stat_activity
                   where datname = current_database() and query = 'select pg_sleep(60)' and state = 'active'"""
            )
            ended = bool(rows)
    finally:
        await connection.close()
