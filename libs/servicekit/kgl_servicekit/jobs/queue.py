"""The statements of the job table: the only place that writes it.

A job runs under a lease with a fencing token. Whoever finishes it shows the token, so that a worker whose
lease was given to another one changes nothing any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import asyncpg

from kgl_servicekit.database.cause import Cause
from kgl_servicekit.database.connection import Connection
from kgl_servicekit.jobs.declare import JobData

_WRITE = """
insert into job (id, kind, key, job_class, workspace_id, operation_id, stage, data, actor, traceparent, run_at)
select id, kind, key, job_class, workspace_id, operation_id, stage, data, actor, traceparent,
       now() + delay * interval '1 second'
from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::uuid[], $7::text[], $8::jsonb[],
            $9::text[], $10::text[], $11::float8[])
  as i(id, kind, key, job_class, workspace_id, operation_id, stage, data, actor, traceparent, delay)
on conflict do nothing
"""

_CLAIM = """
with picked as (
    select id from job
    where kind = $1 and state = 'queued' and run_at <= now()
    order by (job_class <> 'interactive'), run_at, id
    limit $2 for update skip locked
)
update job set state = 'running', attempt = attempt + 1, token = token + 1, holder = $3,
               lease_until = now() + $4 * interval '1 second'
from picked where job.id = picked.id
returning job.id, kind, workspace_id, operation_id, stage, data, run, attempt, failures, token, actor,
          traceparent, created_at
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
    data: dict[str, Any]
    failures: int
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
            job.data.job_class,
            job.workspace_id,
            job.operation_id,
            job.data.stage_name(),
            job.data.model_dump(mode="json"),
            job.cause.actor,
            job.cause.traceparent,
            job.delay,
        )
        for job in jobs
    ]
    await connection.execute(_WRITE, *(list(column) for column in zip(*rows, strict=True)))


class Executor(Protocol):
    """What runs a statement: a transaction."""

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]: ...
    async def execute(self, sql: str, *args: Any) -> str: ...


async def claim(tx: Executor, kind: str, limit: int, holder: str, lease: float) -> list[Claimed]:
    """Take up to `limit` ready jobs of a kind, for `lease` seconds."""
    rows = await tx.fetch(_CLAIM, kind, limit, holder, lease)
    return [Claimed(**dict(row)) for row in rows]


async def extend(tx: Executor, job: Claimed, lease: float) -> bool:
    """Keep a job for `lease` more seconds; False when it is no longer ours."""
    sql = """update job set lease_until = now() + $3 * interval '1 second'
             where id = $1 and token = $2 and state = 'running'"""
    return await tx.execute(sql, job.id, job.token, lease) == "UPDATE 1"


async def end(tx: Executor, job: Claimed, state: str, code: str | None = None, error: str | None = None) -> bool:
    """End a job for good; False when it is no longer ours."""
    sql = """update job set state = $3, error_code = $4, error = $5, ended_at = now(), lease_until = null
             where id = $1 and token = $2 and state = 'running'"""
    return await tx.execute(sql, job.id, job.token, state, code, error) == "UPDATE 1"


async def postpone(tx: Executor, job: Claimed, delay: float, *, failed: bool, code: str, error: str) -> bool:
    """Give a job back, to be tried again after `delay` seconds; only a failure spends one of its attempts."""
    sql = """update job set state = 'queued', run_at = now() + $3 * interval '1 second', holder = null,
                    lease_until = null, failures = failures + $4, error_code = $5, error = $6
             where id = $1 and token = $2 and state = 'running'"""
    return await tx.execute(sql, job.id, job.token, delay, int(failed), code, error) == "UPDATE 1"


async def return_lost(tx: Executor, kinds: Sequence[str], predecessor: str, deaths: int) -> list[tuple[StageRef, bool]]:
    """Give back the jobs whose lease is over, or whose holder was this worker's predecessor of the same name.

    A job that has seen `deaths` workers end is failed, as the likely reason for it; the answer says which.
    """
    rows = await tx.fetch(_RETURN, list(kinds), predecessor, deaths)
    return [
        (
            StageRef(
                workspace_id=row["workspace_id"],
                operation_id=row["operation_id"],
                stage=row["stage"],
                run=row["run"],
                attempt=row["attempt"],
            ),
            row["state"] == "failed",
        )
        for row in rows
    ]


async def give_back(tx: Executor, holder: str) -> None:
    """Queue again what a worker that stops in good order still holds."""
    await tx.execute(
        """update job set state = 'queued', token = token + 1, holder = null, lease_until = null, run_at = now()
           where state = 'running' and holder = $1""",
        holder,
    )


async def reopen(tx: Executor, job_id: UUID) -> bool:
    """Queue a failed job anew, as its next run; False when there is no such failed job."""
    sql = """update job set state = 'queued', run = run + 1, failures = 0, deaths = 0, run_at = now(), ended_at = null
             where id = $1 and state = 'failed'"""
    return await tx.execute(sql, job_id) == "UPDATE 1"
