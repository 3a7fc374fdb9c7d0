"""Statements that keep receipts up to date."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from kgl_contracts.operations import (
    OperationEnded,
    OperationStarted,
    PlannedStage,
    Progress,
    StageFailure,
    StageState,
    Subject,
)
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.operations import ENDED, RANK

_START = """
insert into operation (workspace_id, id, kind, subject, subject_type, state, created_at)
select workspace_id, id, kind, subject, subject_type, 'running', created_at
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
  as i(workspace_id, id, kind, subject, subject_type, created_at)
on conflict do nothing
"""

_STAGES = """
insert into operation_stage as s (workspace_id, operation_id, name, ordinal, planned, required, deadline_at, place,
                                  state, run, attempt, holder, error, next_retry_at, started_at, ended_at,
                                  removed, kept_until)
select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::int[], $5::bool[], $6::bool[], $7::timestamptz[],
                     $8::bigint[], $9::text[], $10::int[], $11::int[], $12::text[], $13::text[], $14::timestamptz[],
                     $15::timestamptz[], $16::timestamptz[], $17::jsonb[], $18::jsonb[])
on conflict (workspace_id, operation_id, name) do update
set ordinal = case when excluded.planned then excluded.ordinal else s.ordinal end,
    planned = s.planned or excluded.planned,
    required = case when excluded.planned then excluded.required else s.required end,
    deadline_at = case when excluded.planned then excluded.deadline_at else s.deadline_at end,
    place = greatest(s.place, excluded.place),
    state = case when excluded.place > s.place then excluded.state else s.state end,
    run = greatest(s.run, excluded.run),
    attempt = case when excluded.run > s.run then excluded.attempt
                   when excluded.run = s.run then greatest(s.attempt, excluded.attempt) else s.attempt end,
    holder = case when excluded.place > s.place then excluded.holder else s.holder end,
    error = case when excluded.place > s.place then excluded.error else s.error end,
    next_retry_at = case when excluded.place > s.place then excluded.next_retry_at else s.next_retry_at end,
    started_at = least(s.started_at, excluded.started_at),
    ended_at = case when excluded.place > s.place then excluded.ended_at else s.ended_at end,
    removed = s.removed || excluded.removed,
    kept_until = s.kept_until || excluded.kept_until
"""

_LOCK = """
select from operation o join unnest($1::uuid[], $2::uuid[]) as i(workspace_id, id) using (workspace_id, id)
order by o.workspace_id, o.id for no key update of o
"""

_CONCLUDE = """
with judged as (
    select o.workspace_id, o.id, o.state as before,
           bool_and(s.state = any($3::text[])) filter (where s.planned and s.required) as ended,
           bool_or(s.state = 'failed') filter (where s.planned and s.required) as failed,
           bool_or(s.state = 'cancelled') filter (where s.planned and s.required) as cancelled,
           max(s.ended_at) filter (where s.planned and s.required) as last,
           array_agg(jsonb_build_object('stage', s.name, 'error', s.error) order by s.ordinal, s.name)
             filter (where s.planned and s.required and s.state = 'failed') as failures
    from unnest($1::uuid[], $2::uuid[]) as i(workspace_id, id)
    join operation o on o.workspace_id = i.workspace_id and o.id = i.id
    join operation_stage s on s.workspace_id = o.workspace_id and s.operation_id = o.id
    group by o.workspace_id, o.id
), concluded as (
    update operation o
    set state = case when j.failed then 'failed' when not j.ended then 'running' when j.cancelled then 'cancelled'
                     else 'done' end,
        ended_at = case when j.failed or j.ended then j.last end
    from judged j where o.workspace_id = j.workspace_id and o.id = j.id
    returning o.*, j.before, j.failures[1:20] as failures
)
select * from concluded where state not in ('running', before) order by workspace_id, id
"""


@dataclass(slots=True)
class _Row:
    """What is new of one stage: its plan, how far it is, or both. The fields are the columns of _STAGES."""

    workspace_id: UUID
    operation_id: UUID
    name: str
    ordinal: int = 1000
    planned: bool = False
    required: bool = False
    deadline_at: datetime | None = None
    place: int = 0
    state: StageState = "waiting"
    run: int = 1
    attempt: int = 0
    holder: str | None = None
    error: str | None = None
    next_retry_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    removed: dict[str, int] = field(default_factory=dict)
    kept_until: dict[str, str] = field(default_factory=dict)

    def plan(self, ordinal: int, stage: PlannedStage, at: datetime) -> None:
        self.ordinal, self.planned, self.required = ordinal, True, stage.required
        self.deadline_at = at + timedelta(seconds=stage.deadline_seconds)

    def move(self, entry: Progress) -> None:
        if entry.state != "waiting":
            self.started_at = min(self.started_at or entry.at, entry.at)
        if (entry.run, entry.attempt) > (self.run, self.attempt):
            self.run, self.attempt = entry.run, entry.attempt
        self.removed |= entry.removed  # each kind is told once, so the order does not matter
        self.kept_until |= {kind: until.isoformat() for kind, until in entry.kept_until.items()}
        place = place_of(entry)
        if place > self.place:
            self.place, self.state, self.holder, self.error = place, entry.state, entry.holder, entry.error
            self.next_retry_at = entry.next_retry_at
            self.ended_at = entry.at if entry.state in ENDED else None


_COLUMNS = tuple(field.name for field in fields(_Row))


def place_of(progress: Progress) -> int:
    """A number that grows as a stage moves on, whatever order the reports come in.

    A later run counts more than an earlier one, an end more than anything before it, then the attempt.
    """
    rank = RANK[progress.state]
    within = 10**8 + rank if progress.state in ENDED else min(progress.attempt, 10**6) * 10 + rank
    return progress.run * 10**9 + within


async def record(
    tx: Transaction, started: Sequence[tuple[UUID, OperationStarted]], moved: Sequence[Progress]
) -> list[tuple[UUID, OperationEnded]]:
    """List operations of workspaces with their plans, and move stages on; older reports change nothing.

    The answer is which have ended by that, or have ended otherwise than before.

    Reports may come before their operation. Rows are written in the order of their keys, all stages before any
    operation is judged, so that those who write at the same time wait for each other in one order.
    """
    rows: dict[tuple[UUID, UUID, str], _Row] = {}
    for workspace, operation in started:
        for ordinal, stage in enumerate(operation.stages):
            _row_of(rows, workspace, operation.operation_id, stage.name).plan(ordinal, stage, operation.started_at)
    for entry in moved:
        _row_of(rows, entry.workspace_id, entry.operation_id, entry.stage).move(entry)
    if started:
        await tx.execute(_START, *_columns(sorted(_started(*one) for one in started)))
    ordered = [rows[key] for key in sorted(rows)]
    await tx.execute(_STAGES, *([getattr(row, name) for row in ordered] for name in _COLUMNS))
    places = {(workspace, operation.operation_id) for workspace, operation in started}
    return await _conclude(tx, sorted(places | {(workspace, operation) for workspace, operation, _ in rows}))


def _row_of(rows: dict[tuple[UUID, UUID, str], _Row], workspace: UUID, operation: UUID, stage: str) -> _Row:
    key = (workspace, operation, stage)
    if key not in rows:
        rows[key] = _Row(*key)
    return rows[key]


def _started(workspace: UUID, operation: OperationStarted) -> tuple[UUID, UUID, str, str, str, datetime]:
    subject = operation.subject
    return workspace, operation.operation_id, operation.kind, str(subject.id), subject.type, operation.started_at


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


async def _conclude(tx: Transaction, places: Sequence[tuple[UUID, UUID]]) -> list[tuple[UUID, OperationEnded]]:
    """Judge operations of workspaces by their stages.

    Reports of one operation come on many partitions at once. Whoever judges last has to see what all others
    wrote, so it first waits for them in a statement of its own: the next one's snapshot is newer.
    """
    workspaces, operations = _columns(places)
    await tx.execute(_LOCK, workspaces, operations)
    rows = await tx.fetch(_CONCLUDE, workspaces, operations, sorted(ENDED))
    return [(row["workspace_id"], _ended(row)) for row in rows]


async def trim(tx: Transaction, asked: tuple[int, int]) -> int:
    """Forget receipts that ended so many days ago with their stages, the oldest, so many at most; how many it were."""
    gone: int = await tx.fetchval("select kgl_trim_operations($1, $2)", *asked)
    return gone


def _ended(row: asyncpg.Record) -> OperationEnded:
    return OperationEnded(
        operation_id=row["id"],
        kind=row["kind"],
        subject=Subject(type=row["subject_type"], id=UUID(row["subject"])),
        state=row["state"],
        failures=tuple(StageFailure(**failure) for failure in row["failures"] or ()),
        started_at=row["created_at"],
        ended_at=row["ended_at"],
    )
