"""Statements of receipts."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from kgl_contracts.operations import OperationStarted, Progress
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.operations import ENDED, RANK, Receipt, Stage

_START = """
insert into operation (workspace_id, id, kind, subject, state, created_at)
values ($1, $2, $3, $4, 'running', $5) on conflict do nothing
"""

_PLAN = """
insert into operation_stage (workspace_id, operation_id, name, ordinal, planned, required, place, state, run,
                             attempt, deadline_at)
select $1, $2, name, ordinal, true, required, 0, 'waiting', 1, 0, deadline_at
from unnest($3::text[], $4::int[], $5::bool[], $6::timestamptz[]) as i(name, ordinal, required, deadline_at)
on conflict (workspace_id, operation_id, name) do update
set ordinal = excluded.ordinal, planned = true, required = excluded.required, deadline_at = excluded.deadline_at
"""

_MERGE = """
insert into operation_stage as s (workspace_id, operation_id, name, ordinal, planned, required, place, state, run,
                                  attempt, holder, error, next_retry_at, started_at, ended_at)
select workspace_id, operation_id, name, 1000, false, false, place, state, run, attempt, holder, error,
       next_retry_at, at, case when ended then at end
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::text[], $6::int[], $7::int[], $8::text[],
            $9::text[], $10::timestamptz[], $11::timestamptz[], $12::bool[])
  as i(workspace_id, operation_id, name, place, state, run, attempt, holder, error, next_retry_at, at, ended)
on conflict (workspace_id, operation_id, name) do update
set place = greatest(s.place, excluded.place),
    state = case when excluded.place > s.place then excluded.state else s.state end,
    run = greatest(s.run, excluded.run),
    attempt = case when excluded.run >= s.run then greatest(s.attempt, excluded.attempt) else s.attempt end,
    holder = case when excluded.place > s.place then excluded.holder else s.holder end,
    error = case when excluded.place > s.place then excluded.error else s.error end,
    next_retry_at = case when excluded.place > s.place then excluded.next_retry_at else s.next_retry_at end,
    started_at = least(s.started_at, excluded.started_at),
    ended_at = case when excluded.place > s.place then excluded.ended_at else s.ended_at end
"""

_LOCK = """
select from operation where workspace_id = any($1::uuid[]) and id = any($2::uuid[])
order by workspace_id, id for no key update
"""

_CONCLUDE = """
with judged as (
    select o.workspace_id, o.id,
           bool_and(s.state = any($3::text[])) filter (where s.planned and s.required) as ended,
           bool_or(s.state = 'failed') filter (where s.planned and s.required) as failed,
           bool_or(s.state = 'cancelled') filter (where s.planned and s.required) as cancelled,
           max(s.ended_at) filter (where s.planned and s.required) as last
    from operation o join operation_stage s on s.workspace_id = o.workspace_id and s.operation_id = o.id
    where o.workspace_id = any($1::uuid[]) and o.id = any($2::uuid[])
    group by o.workspace_id, o.id
)
update operation o
set state = case when j.failed then 'failed' when not j.ended then 'running' when j.cancelled then 'cancelled'
                 else 'done' end,
    ended_at = case when j.failed or j.ended then j.last end
from judged j where o.workspace_id = j.workspace_id and o.id = j.id
"""


def place_of(progress: Progress) -> int:
    """A number that grows as a stage moves on, whatever order the reports come in.

    A later run counts more than an earlier one, an end more than anything before it, then the attempt.
    """
    rank = RANK[progress.state]
    within = 10**8 + rank if progress.state in ENDED else min(progress.attempt, 10**6) * 10 + rank
    return progress.run * 10**9 + within


async def start(tx: Transaction, started: OperationStarted) -> None:
    """Record an operation and its plan; reports that came earlier are kept."""
    workspace, stages = tx.workspace, started.stages
    await tx.execute(_START, workspace, started.operation_id, started.kind, started.subject, started.started_at)
    await tx.execute(
        _PLAN,
        workspace,
        started.operation_id,
        [stage.name for stage in stages],
        list(range(len(stages))),
        [stage.required for stage in stages],
        [started.started_at + timedelta(seconds=stage.deadline_seconds) for stage in stages],
    )
    await _conclude(tx, [workspace], [started.operation_id])


async def merge(tx: Transaction, entries: Sequence[Progress]) -> None:
    """Move stages on by what workers report; older reports change nothing."""
    newest: dict[tuple[UUID, UUID, str], Progress] = {}
    for entry in entries:
        known = newest.setdefault((entry.workspace_id, entry.operation_id, entry.stage), entry)
        if place_of(entry) > place_of(known):
            newest[entry.workspace_id, entry.operation_id, entry.stage] = entry
    rows = [_row(newest[place]) for place in sorted(newest)]
    await tx.execute(_MERGE, *(list(column) for column in zip(*rows, strict=True)))
    await _conclude(tx, sorted({w for w, _, _ in newest}), sorted({o for _, o, _ in newest}))


def _row(entry: Progress) -> tuple[Any, ...]:
    return (
        entry.workspace_id,
        entry.operation_id,
        entry.stage,
        place_of(entry),
        entry.state,
        entry.run,
        entry.attempt,
        entry.holder,
        entry.error,
        entry.next_retry_at,
        entry.at,
        entry.state in ENDED,
    )


async def _conclude(tx: Transaction, workspaces: Sequence[UUID], operations: Sequence[UUID]) -> None:
    """Judge operations by their stages.

    Reports of one operation come on many partitions at once. Whoever judges last has to see what all others
    wrote, so it first waits for them in a statement of its own: the next one's snapshot is newer.
    """
    await tx.execute(_LOCK, list(workspaces), list(operations))
    await tx.execute(_CONCLUDE, list(workspaces), list(operations), sorted(ENDED))


async def find(tx: Transaction, operation_id: UUID) -> Receipt | None:
    """One receipt with its stages."""
    row = await tx.fetchrow("select * from operation where workspace_id = $1 and id = $2", tx.workspace, operation_id)
    if row is None:
        return None
    return (await _with_stages(tx, [row]))[0]


async def listed(
    tx: Transaction,
    *,
    limit: int,
    before: tuple[datetime, UUID] | None,
    state: str | None,
    kind: str | None,
    subject: str | None,
) -> list[Receipt]:
    """Receipts, newest first."""
    rows = await tx.fetch(
        """select * from operation
           where workspace_id = $1 and ($2::timestamptz is null or (created_at, id) < ($2, $3))
             and ($4::text is null or state = $4) and ($5::text is null or kind = $5)
             and ($6::text is null or subject = $6)
           order by created_at desc, id desc limit $7""",
        tx.workspace,
        *(before or (None, None)),
        state,
        kind,
        subject,
        limit,
    )
    return await _with_stages(tx, rows)


async def _with_stages(tx: Transaction, rows: Sequence[asyncpg.Record]) -> list[Receipt]:
    stages = await tx.fetch(
        """select * from operation_stage where workspace_id = $1 and operation_id = any($2::uuid[])
           order by operation_id, ordinal, name""",
        tx.workspace,
        [row["id"] for row in rows],
    )
    now = datetime.now(UTC)
    return [
        Receipt(
            id=row["id"],
            kind=row["kind"],
            subject=row["subject"],
            state=row["state"],
            created_at=row["created_at"],
            ended_at=row["ended_at"],
            stages=tuple(_stage(stage, now) for stage in stages if stage["operation_id"] == row["id"]),
        )
        for row in rows
    ]


def _stage(row: asyncpg.Record, now: datetime) -> Stage:
    late = row["deadline_at"] is not None and row["ended_at"] is None and row["deadline_at"] < now
    return Stage(
        name=row["name"],
        required=row["required"],
        state=row["state"],
        run=row["run"],
        attempt=row["attempt"],
        holder=row["holder"],
        error=row["error"],
        next_retry_at=row["next_retry_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        deadline_at=row["deadline_at"],
        overdue=late,
    )
