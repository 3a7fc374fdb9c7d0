"""What becomes of a job: done, tried again, failed for good, given back."""

import asyncio

import pytest

from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.maintenance import OUTBOX_DAYS, tidy
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import JobFailed, Unavailable
from kgl_servicekit.jobs.runner import Job, JobRunner, LeaseLost
from kgl_servicekit.metrics import JOB_QUEUE_DEPTH
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


async def work(job: Job[Work], _: object) -> None:
    await job.finish(count, job.data.name)


async def test_a_job_ends_in_one_transaction_with_its_effect_and_its_report(database: Database) -> None:
    seen: list[object] = []

    async def looking(job: Job[Work], outside: str) -> None:
        seen.append(outside)
        await job.finish(count, job.data.name)

    job = await start_job(database, "a")
    async with running(JobRunner(database, handled_by(looking), "the outside", worker="w")):
        await eventually(lambda: in_state(database, job, "done"))
    assert seen == ["the outside"]
    assert await counted(database, "a") == 1
    assert await reports(database) == [("running", None), ("done", None)]


async def test_what_a_job_does_belongs_to_the_run_of_its_receipt(database: Database) -> None:
    runs: list[tuple[int, int]] = []

    async def seen(tx: Transaction, run: int) -> None:
        runs.append((run, tx.cause.run))

    async def looking(job: Job[Work], _: None) -> None:
        await job.run(seen, 1)
        await job.finish(seen, 2)

    job = await start_job(database, "a")

    async def again(tx: Transaction, _: None) -> None:
        await tx.execute("update job set run = 3")

    await database.run((), again, None)
    async with running(JobRunner(database, handled_by(looking), None, worker="w")):
        await eventually(lambda: in_state(database, job, "done"))
    assert runs == [(1, 3), (2, 3)]


async def test_a_failed_job_goes_with_its_data_after_a_month(database: Database) -> None:
    young, old = [await start_job(database, name) for name in ("young", "old")]

    async def fail(tx: Transaction, _: None) -> None:
        await tx.execute(
            """update job set state = 'failed',
                   ended_at = now() - case id when $1 then 31 else 29 end * interval '1 day'
               where id = any($2::uuid[])""",
            old,
            [young, old],
        )

    async def left(tx: Transaction, _: None) -> list[object]:
        return [row["id"] for row in await tx.fetch("select id from job")]

    await database.run((), fail, None)
    await database.run((), tidy, OUTBOX_DAYS)
    assert await database.run((), left, None) == [young]


async def test_the_same_key_is_worked_once(database: Database) -> None:
    first = await start_job(database, "a", key="same")
    await start_job(database, "a", key="same")
    async with running(JobRunner(database, handled_by(work), None, worker="w")):
        await eventually(lambda: in_state(database, first, "done"))
    assert await counted(database, "a") == 1


async def test_two_runners_share_the_work_and_do_each_job_once(database: Database) -> None:
    by: dict[str, int] = {"w1": 0, "w2": 0}
    both = asyncio.Event()

    async def counting(job: Job[Work], worker: str) -> None:
        by[worker] += 1
        if all(by.values()):
            both.set()
        await both.wait()  # neither may do all of it before the other has begun
        await job.finish(count, "a")

    jobs = [await start_job(database, "a") for _ in range(12)]
    handled = handled_by(counting, concurrency=2)
    async with running(*(JobRunner(database, handled, worker, worker=worker) for worker in by)):
        for job in jobs:
            await eventually(lambda job=job: in_state(database, job, "done"))
    assert sum(by.values()) == await counted(database, "a") == 12


async def test_a_failing_job_is_tried_again_and_fails_for_good_after_its_attempts(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kgl_servicekit.jobs.attempt._BACKOFF", 0.01)
    tries: list[int] = []

    async def hurting(job: Job[Work], _: None) -> None:
        tries.append(job.claimed.attempt)
        raise RuntimeError("hurts")

    job = await start_job(database, "a")
    async with running(JobRunner(database, handled_by(hurting, attempts=3), None, worker="w", idle=0.02)):
        ended = await eventually(lambda: in_state(database, job, "failed"))
    assert tries == [1, 2, 3]
    assert ended["error_code"] == "job_error"
    assert "hurts" in ended["error"]
    assert (await reports(database))[-1] == ("failed", "job_error")


async def test_a_final_failure_is_not_tried_again(database: Database) -> None:
    async def refusing(_job: Job[Work], _: None) -> None:
        raise JobFailed("no_text", "There is no text in it.")

    job = await start_job(database, "a")
    async with running(JobRunner(database, handled_by(refusing), None, worker="w")):
        ended = await eventually(lambda: in_state(database, job, "failed"))
    assert (ended["attempt"], ended["error_code"]) == (1, "no_text")


async def test_an_outage_spends_no_attempt(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kgl_servicekit.jobs.pool._FIRST_PAUSE", 0.001)
    outages = 6

    async def meeting_an_outage(job: Job[Work], _: None) -> None:
        nonlocal outages
        if outages:
            outages -= 1
            raise Unavailable("The store is out.")
        await job.finish(count, "a")

    job = await start_job(database, "a")
    runner = JobRunner(database, handled_by(meeting_an_outage, attempts=2), None, worker="w", idle=0.02)
    async with running(runner):
        ended = await eventually(lambda: in_state(database, job, "done"))
    assert (ended["failures"], ended["attempt"]) == (0, 7)
    assert [state for state, _ in await reports(database)] == ["running", "retrying"] * 6 + ["running", "done"]


async def test_a_job_that_takes_too_long_is_stopped(database: Database) -> None:
    stopped = asyncio.Event()

    async def hanging(_job: Job[Work], _: None) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    job = await start_job(database, "a")
    async with running(JobRunner(database, handled_by(hanging, timeout=0.05, attempts=1), None, worker="w")):
        ended = await eventually(lambda: in_state(database, job, "failed"))
    assert ended["error_code"] == "timeout"
    assert stopped.is_set()


async def test_a_handler_that_goes_on_after_the_end_of_its_job_is_stopped_when_its_time_is_over(
    database: Database,
) -> None:
    stopped = asyncio.Event()

    async def going_on(job: Job[Work], _: None) -> None:
        await job.finish(count, job.data.name)
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    first = await start_job(database, "a")
    async with running(JobRunner(database, handled_by(going_on, timeout=1, lease=0.3), None, worker="w")):
        await asyncio.wait_for(stopped.wait(), 20)
        second = await start_job(database, "b")  # its place is free again
        await eventually(lambda: in_state(database, second, "done"))
    assert (await row(database, first))["failures"] == 0
    assert await reports(database) == [("running", None), ("done", None)] * 2


async def test_a_lost_workers_job_comes_back_and_the_old_holder_changes_nothing(database: Database) -> None:
    job = await start_job(database, "a")
    (old,) = await claim_work(database, holder="gone", lease=0.05)

    async def lease_is_over() -> bool:
        return bool(await select(database, "select from job where id = $1 and lease_until < now()", job))

    await eventually(lease_is_over)
    async with running(JobRunner(database, handled_by(work), None, worker="w")):
        await eventually(lambda: in_state(database, job, "done"))
    with pytest.raises(LeaseLost):
        await Job(database, old, Work(name="a"), "counter/old").finish(count, "a")
    assert await counted(database, "a") == 1


async def test_an_old_holder_changes_nothing_while_another_one_has_the_job(database: Database) -> None:
    job = await start_job(database, "a")
    (old,) = await claim_work(database, holder="gone")
    await select(database, "update job set token = token + 1, holder = 'other' where id = $1 returning id", job)
    with pytest.raises(LeaseLost):
        await Job(database, old, Work(name="a"), "counter/old").finish(count, "a")
    now = await row(database, job)
    assert (now["state"], now["holder"], await counted(database, "a")) == ("running", "other", 0)


async def test_a_worker_that_starts_again_takes_back_what_it_held(database: Database) -> None:
    job = await start_job(database, "a")
    await claim_work(database, holder="w")
    async with running(JobRunner(database, handled_by(work), None, worker="w")):
        ended = await eventually(lambda: in_state(database, job, "done"))
    assert ended["deaths"] == 1


async def test_a_lease_is_kept_while_the_work_goes_on_and_lost_when_taken(database: Database) -> None:
    cancelled = asyncio.Event()

    async def hanging(_job: Job[Work], _: None) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    job = await start_job(database, "a")

    async def extended() -> bool:
        sql = "select from job where id = $1 and lease_until > created_at + interval '0.35 seconds'"
        return bool(await select(database, sql, job))

    async with running(JobRunner(database, handled_by(hanging, lease=0.3), None, worker="w")):
        await eventually(extended)
        await select(database, "update job set token = token + 1, holder = 'other' where id = $1 returning id", job)
        await asyncio.wait_for(cancelled.wait(), 5)
    assert (await row(database, job))["holder"] == "other"


async def test_jobs_of_a_stopped_worker_are_given_back_at_once(database: Database) -> None:
    begun = asyncio.Event()

    async def hanging(_job: Job[Work], _: None) -> None:
        begun.set()
        await asyncio.Event().wait()

    job = await start_job(database, "a")
    async with running(JobRunner(database, handled_by(hanging), None, worker="w")):
        await asyncio.wait_for(begun.wait(), 5)
    given_back = await row(database, job)
    assert (given_back["state"], given_back["failures"], given_back["deaths"]) == ("queued", 0, 0)


async def test_the_depth_of_the_queue_is_sampled_by_kind_and_class(database: Database) -> None:
    for hurry in (True, False, False):
        await start_job(database, "a", hurry=hurry)

    async def sampled() -> bool:
        depths = [JOB_QUEUE_DEPTH.labels(Work.kind, c)._value.get() for c in ("interactive", "bulk")]
        return depths == [1, 2]

    async with running(JobRunner(database, handled_by(work, concurrency=0), None, worker="w", idle=0.02)):
        await eventually(sampled)
