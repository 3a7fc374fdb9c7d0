"""Receipts as they are read. Row-level security shows those of the transaction's workspaces."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg

from kgl_ingest.domain.receipts import KnownReceipt, ReceiptFilter
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.identity.permissions import INSTANCE_WORKSPACE
from kgl_servicekit.operations import Stage

_OVERDUE = """exists (
    select from operation_stage s where s.workspace_id = o.workspace_id and s.operation_id = o.id
                                    and s.planned and s.ended_at is null and s.deadline_at < now())"""

_STAGES = """
select s.* from operation_stage s
join unnest($1::uuid[], $2::uuid[]) as i(workspace_id, operation_id) using (workspace_id, operation_id)
order by ordinal, name
"""


async def workspaces(tx: Transaction) -> list[UUID]:
    """The workspaces that have operations, whoever asks."""
    found: list[UUID] = await tx.fetchval("select kgl_operation_workspaces()")
    return found


async def find(tx: Transaction, operation_id: UUID) -> KnownReceipt | None:
    """One receipt with its stages."""
    row = await tx.fetchrow(
        "select * from operation where workspace_id = any($1::uuid[]) and id = $2", list(tx.workspaces), operation_id
    )
    return None if row is None else (await _with_stages(tx, [row]))[0]


async def listed(
    tx: Transaction, chosen: ReceiptFilter, limit: int, before: tuple[datetime, UUID] | None
) -> list[KnownReceipt]:
    """Receipts, newest first.

    Only what is asked for is in the statement, so that each filter has its index. Operators see many workspaces, for
    which row-level security is condition enough.
    """
    conditions, values = ["true"], list[Any]()
    for condition, *given in _conditions(tx, chosen, before):
        values += given
        places = [f"${place}" for place in range(len(values) - len(given) + 1, len(values) + 1)]
        conditions.append(condition.format(*places))
    rows = await tx.fetch(
        f"""select * from operation o where {" and ".join(conditions)}
            order by created_at desc, id desc limit ${len(values) + 1}""",
        *values,
        limit,
    )
    return await _with_stages(tx, rows)


def _conditions(
    tx: Transaction, chosen: ReceiptFilter, before: tuple[datetime, UUID] | None
) -> Iterator[tuple[Any, ...]]:
    workspaces = {chosen.workspace_id} if chosen.workspace_id is not None else {*tx.workspaces}
    if len(workspaces) == 1:
        yield "workspace_id = {}::uuid", *workspaces
    if before is not None:
        yield "(created_at, id) < ({}::timestamptz, {}::uuid)", *before
    for condition, value in (
        ("state = {}::text", chosen.state),
        ("kind = {}::text", chosen.kind),
        ("subject = {}::text", chosen.subject),
        ("created_at >= {}::timestamptz", chosen.created_at_gte),
        ("created_at < {}::timestamptz", chosen.created_at_lt),
        (f"{_OVERDUE} = {{}}::bool", chosen.overdue),
    ):
        if value is not None:
            yield condition, value


async def _with_stages(tx: Transaction, rows: Sequence[asyncpg.Record]) -> list[KnownReceipt]:
    found = await tx.fetch(_STAGES, [row["workspace_id"] for row in rows], [row["id"] for row in rows])
    now = datetime.now(UTC)
    return [
        KnownReceipt(
            id=row["id"],
            workspace_id=None if row["workspace_id"] == INSTANCE_WORKSPACE else row["workspace_id"],
            kind=row["kind"],
            subject=row["subject"],
            subject_type=row["subject_type"],
            state=row["state"],
            created_at=row["created_at"],
            ended_at=row["ended_at"],
            stages=tuple(_stage(stage, now) for stage in found if stage["operation_id"] == row["id"]),
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
        removed=row["removed"],
        kept_until=row["kept_until"],
    )
