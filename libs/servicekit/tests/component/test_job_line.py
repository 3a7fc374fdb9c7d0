"""Who is next: turns between workspaces, classes, kinds."""

from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import asyncpg
import pytest

from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.ids import uuid7
from kgl_servicekit.jobs import line
from kgl_servicekit.jobs.declare import Jobs
from kgl_servicekit.jobs.line import Asked
from kgl_servicekit.jobs.queue import Claimed
from kgl_servicekit.jobs.runner import Job, JobRunner
from kgl_servicekit.testing.counter import count
from kgl_servicekit.testing.jobs import (
    WORKSPACE,
    Chore,
    Work,
    claim_work,
    handled_by,
    in_state,
    job_database,
    running,
    select,
    start_job,
    start_jobs,
)
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import PostgresForTests

FLOOD, SMALL, LATE = uuid7(), uuid7(), uuid7()


@pytest.fixture
async def database(postgres: PostgresForTests) -> AsyncIterator[Database]:
    async with job_database(postgres) as opened:
        yield opened


async def ended(database: Database, job: Claimed) -> None:
    await select(database, "update job set state = 'done', ended_at = now() where id = $1 returning id", job.id)


async def worked(database: Database, times: int) -> list[UUID]:
    """The workspaces of the next jobs, when one slot works them one after the other."""
    order = []
    for _ in range(times):
        (job,) = await claim_work(database)
        order.append(job.workspace_id)
        await ended(database, job)
    return order


async def test_a_flood_of_one_workspace_delays_the_single_job_of_another_by_one_round(database: Database) -> None:
    await start_jobs(database, [str(n) for n in range(2000)], workspace=FLOOD)
    assert await worked(database, 5) == [FLOOD] * 5
    await start_jobs(database, ["one"], workspace=SMALL)
    await start_jobs(database, ["two"], workspace=LATE)
    assert set(await worked(database, 3)) == {FLOOD, SMALL, LATE}
    assert await worked(database, 3) == [FLOOD] * 3


async def test_two_floods_take_turns_whoever_came_first_and_keep_their_own_order(database: Database) -> None:
    await start_jobs(database, [f"f{n}" for n in range(500)], workspace=FLOOD)
    assert await worked(database, 20) == [FLOOD] * 20
    await start_jobs(database, [f"s{n}" for n in range(500)], workspace=SMALL)
    taken = await claim_work(database, 100)
    assert 49 <= sum(job.workspace_id == SMALL for job in taken) <= 51
    for workspace, first in ((FLOOD, 20), (SMALL, 0)):
        names = [int(job.data["name"][1:]) for job in taken if job.workspace_id == workspace]
        assert set(names) == set(range(first, first + len(names)))


async def test_a_workspace_that_was_idle_has_no_claim_on_the_past(database: Database) -> None:
    await start_jobs(database, ["s"], workspace=SMALL)
    await worked(database, 1)
    await start_jobs(database, [str(n) for n in range(200)], workspace=FLOOD)
    await worked(database, 100)
    await start_jobs(database, [str(n) for n in range(200)], workspace=SMALL)
    assert (await worked(database, 20)).count(FLOOD) >= 9


async def test_a_workspace_of_double_weight_gets_two_turns_in_a_round(database: Database) -> None:
    async def weigh(tx: Transaction, weight: float) -> None:
        await line.set_weight(tx, SMALL, weight)

    await database.run((), weigh, 2)
    with pytest.raises(ValueError, match="weight"):
        await database.run((), weigh, 0)
    for workspace in (FLOOD, SMALL):
        await start_jobs(database, [str(n) for n in range(60)], workspace=workspace)
    taken = await claim_work(database, 60)
    assert 39 <= sum(job.workspace_id == SMALL for job in taken) <= 41


async def test_a_job_that_comes_back_for_a_retry_does_not_turn_back_the_clock(database: Database) -> None:
    await start_jobs(database, [str(n) for n in range(300)], workspace=FLOOD)
    (first,) = await claim_work(database)
    await worked(database, 100)
    sql = "update job set state = 'queued', turn = null, run_at = now() where id = $1 returning id"
    await select(database, sql, first.id)
    await start_jobs(database, [str(n) for n in range(300)], workspace=SMALL)
    assert 9 <= (await worked(database, 20)).count(FLOOD) <= 11


async def claimed_as(database: Database, runner: Asked) -> list[Claimed]:
    async def take(tx: Transaction, asked: Sequence[Asked]) -> list[Claimed]:
        await line.line_up(tx)
        return await line.claim(tx, "w", asked)

    return await database.run((), take, [runner])


async def test_the_class_that_is_asked_first_goes_first_and_the_other_fills_up(database: Database) -> None:
    await start_jobs(database, ["b"] * 3, workspace=FLOOD)
    await start_jobs(database, ["i"] * 3, workspace=SMALL, hurry=True)
    taken = await claimed_as(database, Asked(kind=Work.kind, first="interactive", most=4, lease=60))
    assert sorted(job.job_class for job in taken) == ["bulk", "interactive", "interactive", "interactive"]
    await start_jobs(database, ["i"] * 3, workspace=SMALL, hurry=True)
    taken = await claimed_as(database, Asked(kind=Work.kind, first="bulk", most=3, lease=60))
    assert sorted(job.job_class for job in taken) == ["bulk", "bulk", "interactive"]


async def test_interactive_jobs_go_first_and_bulk_ones_do_not_starve(database: Database) -> None:
    order: list[str] = []

    async def work(job: Job[Work], _: None) -> None:
        order.append(job.claimed.job_class)
        await job.finish(count, "a")

    await start_jobs(database, ["b"] * 8, workspace=FLOOD)
    await start_jobs(database, ["i"] * 40, workspace=FLOOD, hurry=True)
    await JobRunner(database, handled_by(work, concurrency=1), None, worker="w").work_off()
    assert order[:8] == ["interactive"] * 3 + ["bulk"] + ["interactive"] * 3 + ["bulk"]
    assert order[:32].count("bulk") == 8


async def test_a_flood_of_one_kind_leaves_the_slots_of_another_free(database: Database) -> None:
    jobs = Jobs()

    @jobs.handles(Work, concurrency=2)
    async def hang(job: Job[Work], _: None) -> None:
        await eventually(lambda: in_state(database, chore, "done"), within=20)

    @jobs.handles(Chore, concurrency=1)
    async def tidy(job: Job[Chore], _: None) -> None:
        """Nothing to do."""

    await start_jobs(database, ["x"] * 50, workspace=FLOOD)

    async def begin(tx: Transaction, _: None) -> UUID:
        return await tx.start_job(Chore())

    chore = await database.run(WORKSPACE, begin, None)
    async with running(JobRunner(database, jobs, None, worker="w")):
        await eventually(lambda: in_state(database, chore, "done"))
        rows = await select(database, "select from job where kind = $1 and state = 'running'", Work.kind)
        assert len(rows) <= 2


async def test_a_job_that_is_not_due_has_no_turn(database: Database) -> None:
    async def begin(tx: Transaction, delay: float) -> UUID:
        return await tx.start_job(Work(name="later"), delay=delay)

    later = await database.run(WORKSPACE, begin, 3600.0)
    now = await start_job(database, "now")
    assert [job.id for job in await claim_work(database, 10)] == [now]
    await select(database, "update job set run_at = now() where id = $1 returning id", later)
    assert [job.id for job in await claim_work(database, 10)] == [later]


async def test_a_claim_reads_its_index_and_sorts_nothing(postgres: PostgresForTests, database: Database) -> None:
    for _ in range(3):
        await start_jobs(database, ["x"] * 500, workspace=uuid7())
    await claim_work(database, 1)

    async def plan(tx: Transaction, _: None) -> list[asyncpg.Record]:
        return await tx.fetch(f"explain {line._CLAIM}", "w", [Work.kind], ["interactive"], ["bulk"], [4], [30.0])

    text = "\n".join(r[0] for r in await database.run((), plan, None))
    assert "ix_job_ready" in text
    assert "Sort" not in text
