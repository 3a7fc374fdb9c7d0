"""Jobs that end the worker that does them, and those that only stood beside one."""

import asyncio

from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.alone import HANDLERS
from kgl_servicekit.jobs import line, queue
from kgl_servicekit.jobs.queue import DEATHS, SUSPECT, Claimed
from kgl_servicekit.jobs.runner import Job, JobRunner
from kgl_servicekit.testing.counter import count
from kgl_servicekit.testing.jobs import (
    Work,
    claim_work,
    counted,
    handled_by,
    in_state,
    reports,
    row,
    running,
    select,
    start_job,
)
from kgl_servicekit.testing.polling import eventually


async def claim_suspect(database: Database) -> list[Claimed]:
    async def take(tx: Transaction, leases: dict[str, float]) -> list[Claimed]:
        return await line.claim_suspect(tx, "w", leases)

    return await database.run((), take, {Work.kind: 3600.0})


async def die(database: Database) -> None:
    """What a worker's next start does with what it held when it ended."""

    async def give_back(tx: Transaction, _: None) -> None:
        await queue.return_lost(tx, [Work.kind], "w")

    await database.run((), give_back, None)


async def test_after_deaths_in_company_each_runs_alone_and_only_the_killer_is_failed(database: Database) -> None:
    killer = await start_job(database, "killer")
    for _ in range(3):
        await start_job(database, "innocent")
    for _ in range(SUSPECT):
        assert len(await claim_work(database, 4)) == 4
        await die(database)
    assert await claim_work(database, 4) == []
    for _ in range(DEATHS - SUSPECT + 3):
        (job,) = await claim_suspect(database)
        if job.id == killer:
            await die(database)
        else:
            await Job(database, job, Work(name="innocent"), "counter/w").finish(count, "innocent")
    ended = await row(database, killer)
    assert (ended["state"], ended["error_code"], ended["deaths"]) == ("failed", "worker_lost", DEATHS)
    assert await counted(database, "innocent") == 3
    assert await claim_suspect(database) == []


async def test_a_suspect_waits_for_what_runs_and_nothing_starts_beside_it(database: Database) -> None:
    together = most = 0
    order: list[str] = []

    async def work(job: Job[Work], _: None) -> None:
        nonlocal together, most
        together += 1
        order.append(job.data.name)
        if job.data.name == "suspect":
            most = max(most, together)
            await start_job(database, "after")
            await eventually(lambda: _queued(database, "after"))
            most = max(most, together)
        await job.finish(count, job.data.name)
        together -= 1

    await start_job(database, "beside")
    suspect = await start_job(database, "suspect")
    await select(database, "update job set deaths = $2 where id = $1 returning id", suspect, SUSPECT)
    async with running(JobRunner(database, handled_by(work), None, worker="w", idle=0.02)):
        await eventually(lambda: in_state(database, suspect, "done"))
        await eventually(lambda: _done(database, "after"))
    assert most == 1
    assert order[0] == "suspect"
    assert ("failed", "worker_lost") not in await reports(database)


async def test_a_suspect_and_an_event_that_is_alone_wait_for_each_other(database: Database) -> None:
    began, may_end = asyncio.Event(), asyncio.Event()

    async def work(job: Job[Work], _: None) -> None:
        began.set()
        await may_end.wait()
        await job.finish(count, job.data.name)

    suspect = await start_job(database, "suspect")
    await select(database, "update job set deaths = $2 where id = $1 returning id", suspect, SUSPECT)
    async with running(JobRunner(database, handled_by(work), None, worker="w", idle=0.02)):
        async with HANDLERS.alone():
            await eventually(lambda: in_state(database, suspect, "running"))
            assert not began.is_set()
        await asyncio.wait_for(began.wait(), 10)
        alone = asyncio.create_task(_alone())
        await database.ping()
        assert not alone.done()
        may_end.set()
        await asyncio.wait_for(alone, 10)
        await eventually(lambda: in_state(database, suspect, "done"))


async def _alone() -> None:
    async with HANDLERS.alone():
        pass


async def _queued(database: Database, name: str) -> bool:
    return bool(await select(database, "select from job where data->>'name' = $1 and state = 'queued'", name))


async def _done(database: Database, name: str) -> bool:
    return await counted(database, name) == 1
