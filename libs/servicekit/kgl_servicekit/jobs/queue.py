"""The statements of the job table for one job or one operation; `line` has those that choose what is next.

queued ─claim─► running ─► done | failed | cancelled
   ▲               │
   └── postpone, return_lost, give_back          failed ─reopen─► queued, as the next run
                                                 any of them ─hasten─► queued, the same

A job runs under a lease with a fencing token. Whoever finishes it shows the token, so that a worker whose
lease was given to another one, or whose job was cancelled, changes nothing any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import asyncpg

from kgl_contracts.operations import StageState
from kgl_servicekit.database.cause import Cause
from kgl_servicekit.database.connection import Connection
from kgl_servicekit.database.signals import JOBS
from kgl_servicekit.jobs.declare import JobData

if TYPE_CHECKING:
    from kgl_servicekit.database.transaction import Transaction

CANCELLED = "kgl_jobs_cancelled"
"""The channel that wakes runners when something they may hold was cancelled."""

SUSPECT = 2
"""A job that has seen so many workers end runs alone from then on, so that the next death is its own.

An index has this number in its predicate."""

DEATHS = 10
"""A job that has seen so many workers end, eight of them alone, is failed as their killer.

Fewer would blame a slow job for kills at random: six of them met the same first job five times in a test."""

_WRITE = """
insert into job (id, kind, key, job_class, workspace_id, operation_id, stage, data, actor, traceparent, run, run_at)
select id, kind, key, job_class, workspace_id, operation_id, stage, data, actor, traceparent, run,
       now() + delay * interval '1 second'
from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::uuid[], $7::text[], $8::jsonb[],
            $9::text[], $10::text[], $11::int[], $12::float8[])
  as i(id, kind, key, job_class, workspace_id, operation_id, stage, data, actor, traceparent, run, delay)
on conflict do nothing
"""

_EXTEND = """
update job set lease_until = now() + held.lease * interval '1 second'
from unnest($1::uuid[], $2::bigint[], $3::float8[]) as held(id, token, lease)
where job.id = held.id and job.token = held.token and state = 'running'
returning job.id
"""

_RETURN = """
with lost as (
    select id from job
    where state = 'running' and kind = any($1::text[]) and (lease_until < now() or holder = $2)
    for update skip locked
)
update job set state = case when deaths + 1 >= $3 then 'failed' else 'queued' end, deaths = deaths + 1,
               token = token + 1, holder = null, lease_until = null, run_at = now(),
               error_code = 'worker_lost', error = 'the worker that held this job ended without a word',
               ended_at = case when deaths + 1 >= $3 then now() end
from lost where job.id = lost.id
returning job.workspace_id, operation_id, stage, run, attempt, state
"""

_CANCEL = """
update job set state = 'cancelled', token = token + 1, holder = null, lease_until = null, ended_at = now(),
               error_code = 'cancelled', error = null
where state in ('queued', 'running') and workspace_id = any($1::uuid[])
  and (id = $2 or (operation_id = $3 and stage is not null))
returning workspace_id, operation_id, stage, run, attempt
"""

_REOPEN = """
update job set state = 'queued', run = run + 1, attempt = 0, failures = 0, deaths = 0, turn = null, run_at = now(),
               ended_at = null
where state = 'failed' and workspace_id = any($1::uuid[]) and (id = $2 or operation_id = $3)
returning workspace_id, operation_id, stage, run, attempt
"""

_HASTEN = """
update job set state = 'queued', run = run + (state <> 'queued')::int, failures = 0, deaths = 0, turn = null,
               run_at = now(), ended_at = null
where id = $1 and workspace_id = any($2::uuid[]) and state <> 'running' and (state <> 'queued' or turn is null)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job that starts to exist with the transaction."""

    id: UUID
    data: JobData
    workspace_id: UUID
    operation_id: UUID | None
    cause: Cause
    delay: float
    key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRef:
    """Which stage of which receipt an attempt of a job moves on."""

    workspace_id: UUID
    operation_id: UUID | None
    stage: str | None
    run: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed(StageRef):
    """A job as its holder sees it."""

    id: UUID
    kind: str
    job_class: str
    data: dict[str, Any]
    failures: int
    deaths: int
    token: int
    actor: str | None
    traceparent: str | None
    created_at: datetime


async def write_jobs(connection: Connection, jobs: Sequence[NewJob]) -> None:
    """Write new jobs; a job whose id, or kind and key, exist already is none."""
    rows = [
        (
            job.id,
            job.data.kind,
            job.key,
            job.data.class_name(),
            job.workspace_id,
            job.operation_id,
            job.data.stage_name(),
            job.data.model_dump(mode="json"),
            job.cause.actor,
            job.cause.traceparent,
            job.cause.run,
            job.delay,
        )
        for job in jobs
    ]
    await connection.execute(_WRITE, *(list(column) for column in zip(*rows, strict=True)))


class Executor(Protocol):
    """What runs a statement: a transaction."""

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]: ...
    async def execute(self, sql: str, *args: Any) -> str: ...


async def extend(tx: Executor, held: Sequence[tuple[Claimed, float]]) -> set[UUID]:
    """Keep each job for so many more seconds; the answer is the ids of those that are still ours."""
    rows = await tx.fetch(
        _EXTEND, [job.id for job, _ in held], [job.token for job, _ in held], [lease for _, lease in held]
    )
    return {row["id"] for row in rows}


async def end(tx: Executor, job: Claimed, state: str, code: str | None = None, error: str | None = None) -> bool:
    """End a job for good; False when it is no longer ours."""
    sql = """update job set state = $3, error_code = $4, error = $5, ended_at = now(), lease_until = null
             where id = $1 and token = $2 and state = 'running'"""
    return await tx.execute(sql, job.id, job.token, state, code, error) == "UPDATE 1"


async def postpone(tx: Executor, job: Claimed, delay: float, *, failed: bool, code: str, error: str) -> bool:
    """Give a job back, to be tried again after `delay` seconds; only a failure spends one of its attempts."""
    sql = """update job set state = 'queued', turn = null, run_at = now() + $3 * interval '1 second', holder = null,
                    lease_until = null, failures = failures + $4, error_code = $5, error = $6
             where id = $1 and token = $2 and state = 'running'"""
    return await tx.execute(sql, job.id, job.token, delay, int(failed), code, error) == "UPDATE 1"


async def return_lost(tx: Executor, kinds: Sequence[str], predecessor: str) -> list[tuple[StageRef, bool]]:
    """Give back the jobs whose lease is over, or whose holder was this worker's predecessor of the same name.

    They keep their turn. A job that has seen DEATHS workers end is failed; the answer says which.
    """
    rows = await tx.fetch(_RETURN, list(kinds), predecessor, DEATHS)
    return [(_stage_of(row), row["state"] == "failed") for row in rows]


async def give_back(tx: Executor, holder: str) -> None:
    """Queue again, with their turn, what a worker that stops in good order still holds."""
    await tx.execute(
        """update job set state = 'queued', token = token + 1, holder = null, lease_until = null, run_at = now()
           where state = 'running' and holder = $1""",
        holder,
    )


async def cancel(tx: "Transaction", *, job: UUID | None = None, operation: UUID | None = None) -> int:
    """Cancel what is queued or running, of the transaction's workspaces: one job, or all stages of an operation.

    Jobs of the operation that are no stage of it go on: they clean up, or tell others. A handler that runs is
    interrupted, and nothing that it does becomes true any more. The answer is how many.
    """
    rows = await tx.fetch(_CANCEL, list(tx.workspaces), job, operation)
    for row in rows:
        await _report(tx, _stage_of(row), "cancelled", "cancelled")
    if rows:
        tx.notify(CANCELLED)
    return len(rows)


async def reopen(tx: "Transaction", *, job: UUID | None = None, operation: UUID | None = None) -> int:
    """Queue anew what has failed, as its next run: one job, or all of an operation; the answer is how many."""
    rows = await tx.fetch(_REOPEN, list(tx.workspaces), job, operation)
    for row in rows:
        await _report(tx, _stage_of(row), "waiting", None)
    if rows:
        tx.notify(JOBS)
    return len(rows)


async def hasten(tx: "Transaction", job: UUID) -> None:
    """Have a job without a stage done now: one that waits for its time, or once more one that has ended.

    One that is in line or running stays as it is: it is done soon anyway.
    """
    await tx.execute(_HASTEN, job, list(tx.workspaces))
    tx.notify(JOBS)


async def _report(tx: "Transaction", ref: StageRef, state: StageState, code: str | None) -> None:
    if ref.stage is not None and ref.operation_id is not None:
        await tx.report(
            ref.stage,
            state,
            operation=ref.operation_id,
            workspace=ref.workspace_id,
            run=ref.run,
            attempt=max(1, ref.attempt),
            error=code,
        )


def _stage_of(row: asyncpg.Record) -> StageRef:
    return StageRef(
        workspace_id=row["workspace_id"],
        operation_id=row["operation_id"],
        stage=row["stage"],
        run=row["run"],
        attempt=row["attempt"],
    )
