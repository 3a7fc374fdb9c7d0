import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import pytest

from kgl_contracts.operations import PlannedStage, ReceiptProgressed
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import JobFailed, Unavailable
from kgl_servicekit.ids import uuid7
from kgl_servicekit.jobs import queue
from kgl_servicekit.jobs.declare import JobData, Jobs
from kgl_servicekit.jobs.runner import Job, JobRunner, LeaseLost
from kgl_servicekit.testing.counter import MIGRATIONS, count
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import PostgresForTests

WORKSPACE = uuid7()


class Work(JobData, kind="counter.work", stage="work"):
    """Something slow."""

    name: str


@pytest.fixture
async def database(postgres: PostgresForTests) -> AsyncIterator[Database]:
    async with postgres.database(MIGRATIONS) as roles:
        database = Database(roles.service, service="counter")
        await database.start()
        yield database
        await database.stop()


@asynccontextmanager
async def running(runner: JobRunner) -> AsyncIterator[None]:
    task = asyncio.create_task(runner.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def start(database: Database, name: str, key: str | None = None) -> UUID:
    async def begin(tx: Transaction, name: str) -> UUID:
        receipt = await tx.start_operation("work", uuid7(), [PlannedStage(name="work")])
        return await tx.start_job(Work(name=name), operation=receipt.id, key=key)

    return await database.run(WORKSPACE, begin, name)


async def row(database: Database, job: UUID) -> asyncpg.Record:
    async def read(tx: Transaction, job: UUID) -> asyncpg.Record | None:
        return await tx.fetchrow("select * from job where id = $1", job)

    found = await database.run((), read, job)
    assert found is not None
    return found


async def in_state(database: Database, job: UUID, state: str) -> asyncpg.Record | None:
    found = await row(database, job)
    return found if found["state"] == state else None


async def counted(database: Database, name: str) -> int:
    async def read(tx: Transaction, name: str) -> int:
        value: int | None = await tx.fetchval("select value from counter where name = $1", name)
        return value or 0

    return await database.run(WORKSPACE, read, name)


async def reports(database: Database) -> list[tuple[str, str | None]]:
    async def read(tx: Transaction, _: None) -> list[asyncpg.Record]:
        return await tx.fetch("select data from outbox_log where type = $1 order by id", ReceiptProgressed.event_type)

    events = [ReceiptProgressed.model_validate_json(r["data"]) for r in await database.run((), read, None)]
    return [(entry.state, entry.error) for event in events for entry in event.entries]


def handled_by(handle: object, **options: float) -> Jobs:
    jobs = Jobs()
    jobs.handles(Work, **options)(handle)  # type: ignore[arg-type,type-var]
    return jobs


async def test_a_job_ends_in_one_transaction_with_its_effect_and_its_report(database: Database) -> None:
    async def work(job: Job[Work], outside: str) -> None:
        assert outside == "the outside"
        await job.finish(count, job.data.name)

    job = await start(database, "a")
    async with running(JobRunner(database, handled_by(work), "the outside", worker="w")):
        await eventually(lambda: in_state(database, job, "done"))
    assert await counted(database, "a") == 1
    assert await reports(database) == [("running", None), ("done", None)]


async def test_the_same_key_is_worked_once(database: Database) -> None:
    async def work(job: Job[Work], _: None) -> None:
        await job.finish(count, job.data.name)

    first = await start(database, "a", key="same")
    await start(database, "a", key="same")
    async with running(JobRunner(database, handled_by(work), None, worker="w")):
        await eventually(lambda: in_state(database, first, "done"))
    assert await counted(database, "a") == 1


async def test_a_failing_job_is_tried_again_and_fails_for_good_after_its_attempts(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kgl_servicekit.jobs.runner._BACKOFF", 0.01)
    tries: list[int] = []

    async def work(job: Job[Work], _: None) -> None:
        tries.append(job.claimed.attempt)
        raise RuntimeError("hurts")

    job = await start(database, "a")
    async with running(JobRunner(database, handled_by(work, attempts=3), None, worker="w", idle=0.02)):
        ended = await eventually(lambda: in_state(database, job, "failed"))
    assert tries == [1, 2, 3]
    assert ended["error_code"] == "job_error"
    assert "hurts" in ended["error"]
    assert (await reports(database))[-1] == ("failed", "job_error")


async def test_a_final_failure_is_not_tried_again(database: Database) -> None:
    async def work(_job: Job[Work], _: None) -> None:
        raise JobFailed("no_text", "There is no text in it.")

    job = await start(database, "a")
    async with running(JobRunner(database, handled_by(work), None, worker="w")):
        ended = await eventually(lambda: in_state(database, job, "failed"))
    assert (ended["attempt"], ended["error_code"]) == (1, "no_text")


async def test_an_outage_spends_no_attempt(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kgl_servicekit.jobs.runner._UNAVAILABLE_DELAY", 0.01)
    outages = 6

    async def work(job: Job[Work], _: None) -> None:
        nonlocal outages
        if outages:
            outages -= 1
            raise Unavailable("The store is out.")
        await job.finish(count, "a")

    job = await start(database, "a")
    async with running(JobRunner(database, handled_by(work, attempts=2), None, worker="w", idle=0.02)):
        ended = await eventually(lambda: in_state(database, job, "done"))
    assert ended["failures"] == 0
    assert ended["attempt"] == 7


async def test_a_job_that_takes_too_long_is_stopped(database: Database) -> None:
    stopped = asyncio.Event()

    async def work(_job: Job[Work], _: None) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    job = await start(database, "a")
    async with running(JobRunner(database, handled_by(work, timeout=0.05, attempts=1), None, worker="w")):
        ended = await eventually(lambda: in_state(database, job, "failed"))
    assert ended["error_code"] == "timeout"
    assert stopped.is_set()


async def test_a_lost_workers_job_comes_back_and_the_old_holder_changes_nothing(database: Database) -> None:
    job = await start(database, "a")

    async def claim(tx: Transaction, holder: str) -> list[queue.Claimed]:
        return await queue.claim(tx, Work.kind, 1, holder, 0.05)

    (old,) = await database.run((), claim, "gone")

    async def work(job: Job[Work], _: None) -> None:
        await job.finish(count, "a")

    async def lease_is_over() -> bool:
        async def read(tx: Transaction, _: None) -> bool:
            over: bool = await tx.fetchval("select lease_until < now() from job where id = $1", job)
            return over

        return await database.run((), read, None)

    await eventually(lease_is_over)
    async with running(JobRunner(database, handled_by(work), None, worker="w")):
        await eventually(lambda: in_state(database, job, "done"))
    with pytest.raises(LeaseLost):
        await Job(database, old, Work(name="a"), "counter/old").finish(count, "a")
    assert await counted(database, "a") == 1


async def test_a_worker_that_starts_again_takes_back_what_it_held(database: Database) -> None:
    job = await start(database, "a")

    async def claim(tx: Transaction, holder: str) -> list[queue.Claimed]:
        return await queue.claim(tx, Work.kind, 1, holder, 3600)

    await database.run((), claim, "w")

    async def work(job: Job[Work], _: None) -> None:
        await job.finish(count, "a")

    async with running(JobRunner(database, handled_by(work), None, worker="w")):
        ended = await eventually(lambda: in_state(database, job, "done"))
    assert ended["deaths"] == 1


async def test_a_job_that_has_outlived_too_many_workers_is_failed_as_their_killer(database: Database) -> None:
    job = await start(database, "a")

    async def claim_and_lose(tx: Transaction, _: None) -> None:
        await queue.claim(tx, Work.kind, 1, "w", 3600)
        await queue.return_lost(tx, [Work.kind], "w", 3)

    for _ in range(3):
        await database.run((), claim_and_lose, None)
    ended = await row(database, job)
    assert (ended["state"], ended["error_code"]) == ("failed", "worker_lost")

    async def again(tx: Transaction, job: UUID) -> bool:
        return await queue.reopen(tx, job)

    assert await database.run((), again, job)
    assert not await database.run((), again, job)
    assert (await row(database, job))["run"] == 2


async def test_a_lease_is_kept_while_the_work_goes_on_and_lost_when_taken(database: Database) -> None:
    cancelled = asyncio.Event()

    async def work(_job: Job[Work], _: None) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    job = await start(database, "a")

    async def take(tx: Transaction, _: None) -> None:
        await tx.execute("update job set token = token + 1, holder = 'other' where id = $1", job)

    async def extended() -> bool:
        async def read(tx: Transaction, _: None) -> bool:
            kept: bool = await tx.fetchval(
                "select lease_until > created_at + interval '0.35 seconds' from job where id = $1",
                job,
            )
            return kept

        return await database.run((), read, None)

    async with running(JobRunner(database, handled_by(work, lease=0.3), None, worker="w")):
        await eventually(extended)
        await database.run((), take, None)
        await eventually(lambda: _set(cancelled))


async def _set(event: asyncio.Event) -> bool:
    return event.is_set()


async def test_jobs_of_a_stopped_worker_are_given_back_at_once(database: Database) -> None:
    begun = asyncio.Event()

    async def work(_job: Job[Work], _: None) -> None:
        begun.set()
        await asyncio.Event().wait()

    job = await start(database, "a")
    async with running(JobRunner(database, handled_by(work), None, worker="w")):
        await asyncio.wait_for(begun.wait(), 5)
    given_back = await row(database, job)
    assert (given_back["state"], given_back["failures"], given_back["deaths"]) == ("queued", 0, 0)
