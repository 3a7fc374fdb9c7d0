"""Jobs for tests of the queue: one kind of work, and a look at the rows and reports that come of it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg

from kgl_contracts.operations import PlannedStage, ReceiptProgressed, Subject
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.ids import uuid7
from kgl_servicekit.jobs import line
from kgl_servicekit.jobs.declare import JobClass, JobData, Jobs
from kgl_servicekit.jobs.line import Asked
from kgl_servicekit.jobs.queue import Claimed
from kgl_servicekit.jobs.runner import JobRunner
from kgl_servicekit.testing.counter import MIGRATIONS
from kgl_servicekit.testing.events import running as loops
from kgl_servicekit.testing.postgres import PostgresForTests

WORKSPACE = uuid7()


class Work(JobData, kind="counter.work", stage="work"):
    """Something slow."""

    name: str
    hurry: bool = False

    def class_name(self) -> JobClass:
        return "interactive" if self.hurry else "bulk"


class Chore(JobData, kind="counter.chore"):
    """Something of another kind, without a stage."""


@asynccontextmanager
async def job_database(postgres: PostgresForTests) -> AsyncIterator[Database]:
    """A fresh database of the counter service, open."""
    async with postgres.database(MIGRATIONS) as roles:
        database = Database(roles.service, service="counter")
        await database.start()
        try:
            yield database
        finally:
            await database.stop()


def handled_by(handle: object, data: type[JobData] = Work, **options: float) -> Jobs:
    """The jobs of a service that does this kind by this function."""
    jobs = Jobs()
    jobs.handles(data, **options)(handle)  # type: ignore[arg-type,type-var]
    return jobs


def running(*runners: JobRunner) -> AbstractAsyncContextManager[None]:
    """Runners at work; stopped in good order in the end."""
    return loops(*(runner.run for runner in runners))


async def start_job(
    database: Database, name: str, *, workspace: UUID = WORKSPACE, key: str | None = None, hurry: bool = False
) -> UUID:
    """One job with a receipt of its own; the job's id."""

    async def begin(tx: Transaction, name: str) -> UUID:
        receipt = await tx.start_operation("work", Subject(type="thing", id=uuid7()), [PlannedStage(name="work")])
        return await tx.start_job(Work(name=name, hurry=hurry), operation=receipt.id, key=key)

    return await database.run(workspace, begin, name)


async def start_jobs(database: Database, names: Sequence[str], *, workspace: UUID, hurry: bool = False) -> None:
    """Many jobs without receipts, in one transaction."""

    async def begin(tx: Transaction, names: Sequence[str]) -> None:
        for name in names:
            await tx.start_job(Work(name=name, hurry=hurry))

    await database.run(workspace, begin, names)


async def claim_work(
    database: Database, most: int = 1, *, kind: str = Work.kind, holder: str = "w", lease: float = 3600
) -> list[Claimed]:
    """What a runner would take next of this kind."""

    async def take(tx: Transaction, asked: Asked) -> list[Claimed]:
        await line.line_up(tx)
        return await line.claim(tx, holder, [asked])

    return await database.run((), take, Asked(kind=kind, first="interactive", most=most, lease=lease))


async def row(database: Database, job: UUID) -> asyncpg.Record:
    """The job's row; AssertionError when there is none."""
    rows = await select(database, "select * from job where id = $1", job)
    assert rows, f"there is no job {job}"
    return rows[0]


async def in_state(database: Database, job: UUID, state: str) -> asyncpg.Record | None:
    """The job's row once it is in this state."""
    found = await row(database, job)
    return found if found["state"] == state else None


async def select(database: Database, sql: str, *args: Any) -> list[asyncpg.Record]:
    """Rows as the test's workspace sees them."""

    async def read(tx: Transaction, _: None) -> list[asyncpg.Record]:
        return await tx.fetch(sql, *args)

    return await database.run(WORKSPACE, read, None)


async def counted(database: Database, name: str) -> int:
    """How often the effect of the work of this name became true."""
    rows = await select(database, "select value from counter where name = $1", name)
    return rows[0]["value"] if rows else 0


async def reports(database: Database) -> list[tuple[str, str | None]]:
    """State and error of everything that was reported to receipts, in order."""
    rows = await select(
        database, "select data from outbox_log where type = $1 order by id", ReceiptProgressed.event_type
    )
    events = [ReceiptProgressed.model_validate_json(row["data"]) for row in rows]
    return [(entry.state, entry.error) for event in events for entry in event.entries]
