"""Statements about the audit log."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kgl_auth.domain.audit_chain import GENESIS, ChainedRecord, ChainHead
from kgl_servicekit.database.transaction import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """What to list; None leaves a condition out. `at_gte` is inclusive, `at_lt` is not."""

    actor: str | None = None
    action: str | None = None
    target: str | None = None
    outcome: str | None = None
    at_gte: datetime | None = None
    at_lt: datetime | None = None


_LIST = """
select number, prev_hash, hash, record from audit_record
where scope = $1 and ($2::bigint is null or number < $2)
  and ($3::text is null or record->>'actor' = $3) and ($4::text is null or record->>'action' = $4)
  and ($5::text is null or record->>'target' = $5) and ($6::text is null or record->>'outcome' = $6)
  and ($7::timestamptz is null or (record->>'at')::timestamptz >= $7)
  and ($8::timestamptz is null or (record->>'at')::timestamptz < $8)
order by number desc limit $9
"""


async def lock_head(tx: Transaction, scope: str) -> ChainHead:
    """The head of a scope's chain, locked to the end of the transaction."""
    await tx.execute(
        "insert into audit_chain (scope, number, hash) values ($1, 0, $2) on conflict do nothing", scope, GENESIS
    )
    row = await tx.fetchrow("select number, hash from audit_chain where scope = $1 for update", scope)
    assert row is not None
    return ChainHead(row["number"], row["hash"])


async def append(tx: Transaction, scope: str, workspace_id: UUID | None, entry: ChainedRecord) -> None:
    """Add a record and move the head; the caller holds the head's lock."""
    await tx.execute(
        """insert into audit_record (scope, number, workspace_id, prev_hash, hash, record)
           values ($1, $2, $3, $4, $5, $6)""",
        scope,
        entry.number,
        workspace_id,
        entry.prev_hash,
        entry.hash,
        entry.record,
    )
    await tx.execute("update audit_chain set number = $2, hash = $3 where scope = $1", scope, entry.number, entry.hash)


async def list_records(
    tx: Transaction, scope: str, wanted: AuditFilter, before: int | None, limit: int
) -> Sequence[ChainedRecord]:
    """Records of a scope, newest first, from below number `before`."""
    rows = await tx.fetch(
        _LIST,
        scope,
        before,
        wanted.actor,
        wanted.action,
        wanted.target,
        wanted.outcome,
        wanted.at_gte,
        wanted.at_lt,
        limit,
    )
    return [ChainedRecord(**row) for row in rows]
