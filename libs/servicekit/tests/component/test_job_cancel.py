"""Cancelled and reopened: by job and by operation, queued and running."""

import asyncio
from typing import Any
from uuid import UUID

from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import JobFailed
from kgl_servicekit.ids import uuid7
from kgl_servicekit.jobs import queue
from kgl_servicekit.jobs.runner import Job, JobRunner, LeaseLost
from kgl_servicekit.testing.counter import count
from kgl_servicekit.testing.jobs import (
    WORKSPACE,
    Work,
    claim_work,
    counted,
    handled_by,
    in_state,
    reports,
    row,
    running,
    start_job,
)
from kgl_servicekit.testing.polling import eventually


async def cancel(database: Database, workspace: UUID = WORKSPACE, **which: Any) -> int:
    async def act(tx: Transaction, which: dict[str, Any]) -> int:
        return await queue.cancel(tx, **which)

    return await database.run(workspace, act, which)


async def reopen(database: Database, workspace: UUID = WORKSPACE, **which: Any) -> int:
    async def act(tx: Transaction, which: dict[str, Any]) -> int:
        return await queue.reopen(tx, **which)

    return await database.run(workspace, act, which)


async def test_a_queued_job_that_is_cancelled_is_never_worked_and_its_receipt_says_so(database: Database) -> None:
    job, other = await start_job(database, "a"), await start_job(database, "b")
    assert await cancel(database, operation=(await row(database, job))["operation_id"]) == 1

    async def work(job: Job[Work], _: None) -> None:
        await job.finish(count, job.data.name)

    await JobRunner(database, handled_by(work), None, worker="w").work_off()
    assert (await row(database, job))["state"] == "cancelled"
    assert (await row(database, other))["state"] == "done"
    assert (await counted(database, "a"), await counted(database, "b")) == (0, 1)
    assert await reports(database) == [("cancelled", "cancelled"), ("running", None), ("done", None)]


async def test_a_job_of_a_cancelled_operation_that_is_no_stage_of_it_goes_on(database: Database) -> None:
    job = await start_job(database, "a")
    operation = (await row(database, job))["operation_id"]

    async def clean_up(tx: Transaction, operation: UUID) -> None:
        await tx.execute("update job set stage = null where operation_id = $1", operation)

    await database.run(WORKSPACE, clean_up, operation)
    assert await cancel(database, operation=operation) == 0
    assert (await row(database, job))["state"] == "queued"
    assert await cancel(database, job=job) == 1


async def test_a_running_job_that_is_cancelled_is_interrupted_at_once_and_changes_nothing(database: Database) -> None:
    begun, interrupted = asyncio.Event(), asyncio.Event()
    refused: list[Exception] = []

    async def work(job: Job[Work], _: None) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            try:
                await job.finish(count, "a")
            except LeaseLost as lost:
                refused.append(lost)
            interrupted.set()

    job = await start_job(database, "a")
    # the next heartbeat would be ten minutes away: the cancellation itself has to wake the runner
    async with running(JobRunner(database, handled_by(work, lease=1800), None, worker="w")):
        await asyncio.wait_for(begun.wait(), 5)
        assert await cancel(database, job=job) == 1
        await asyncio.wait_for(interrupted.wait(), 5)
    assert len(refused) == 1
    assert (await row(database, job))["state"] == "cancelled"
    assert await counted(database, "a") == 0
    assert await reports(database) == [("running", None), ("cancelled", "cancelled")]


async def test_a_job_that_has_ended_or_is_anothers_cannot_be_cancelled(database: Database) -> None:
    job = await start_job(database, "a")
    assert await cancel(database, uuid7(), job=job) == 0
    (claimed,) = await claim_work(database)
    await Job(database, claimed, Work(name="a"), "counter/w").finish(count, "a")
    assert await cancel(database, job=job) == 0
    assert (await row(database, job))["state"] == "done"


async def test_a_failed_job_is_reopened_as_its_next_run_and_a_done_one_is_not(database: Database) -> None:
    wrong = True

    async def work(job: Job[Work], _: None) -> None:
        if wrong:
            raise JobFailed("no_text", "There is no text in it.")
        await job.finish(count, "a")

    job = await start_job(database, "a")
    operation = (await row(database, job))["operation_id"]
    async with running(JobRunner(database, handled_by(work), None, worker="w")):
        await eventually(lambda: in_state(database, job, "failed"))
        wrong = False
        assert await reopen(database, uuid7(), operation=operation) == 0
        assert await reopen(database, operation=operation) == 1
        ended = await eventually(lambda: in_state(database, job, "done"))
        assert await reopen(database, job=job) == 0
    assert (ended["run"], ended["failures"]) == (2, 0)
    assert [state for state, _ in await reports(database)] == ["running", "failed", "waiting", "running", "done"]
