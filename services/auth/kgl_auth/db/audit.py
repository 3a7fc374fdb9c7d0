"""Statements about the audit log."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from kgl_auth.domain.audit_chain import ChainedRecord, ChainHead
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
select number, workspace_id, prev_hash, hash, record from audit_record
where scope = $1 and ($2::bigint is null or number < $2)
  and ($3::text is null or record->>'actor' = $3) and ($4::text is null or record->>'action' = $4)
  and ($5::text is null or record->>'target' = $5) and ($6::text is null or record->>'outcome' = $6)
  and ($7::timestamptz is null or (record->>'at')::timestamptz >= $7)
  and ($8::timestamptz is null or (record->>'at')::timestamptz < $8)
order by number desc limit $9
"""

# one statement, one snapshot: a record that is being added cannot come between
_ENDS = """
select c.number, c.hash, coalesce(r.least, 1) as least, coalesce(r.greatest, 0) as greatest
from (select min(number) as least, max(number) as greatest from audit_record where scope = $1) r
left join audit_chain c on c.scope = $1
"""

_PAGE = """
select number, workspace_id, prev_hash, hash, record from audit_record
where scope = $1 and number > $2 order by number limit $3
"""

_HEADLESS = """
select w.id::text as scope from workspace w
where not exists (select from audit_chain c where c.scope = w.id::text) order by w.id limit $1
"""


async def append(tx: Transaction, canonical: bytes) -> None:
    """Add a record, by its canonical JSON, to the end of the chain of its scope, and move the head.

    The database makes the hash itself; raises InsufficientPrivilegeError outside of the record's workspace.
    """
    await tx.execute("select kgl_audit_append($1)", canonical.decode())


async def find_ends(tx: Transaction, scope: str) -> tuple[ChainHead, int, int]:
    """The head of a scope's chain, and the least and the greatest number in its log; 1 and 0 in an empty one."""
    row = await tx.fetchrow(_ENDS, scope)
    assert row is not None
    head = ChainHead() if row["number"] is None else ChainHead(row["number"], row["hash"])
    return head, row["least"], row["greatest"]


async def page_of_chain(tx: Transaction, asked: tuple[str, int, int]) -> Sequence[ChainedRecord]:
    """Up to `limit` records of a scope in order of number; `asked` is scope, the number before them, limit."""
    return [ChainedRecord(**row) for row in await tx.fetch(_PAGE, *asked)]


async def list_scopes(tx: Transaction, asked: tuple[str, int]) -> list[str]:
    """Up to `limit` scopes that have a chain, in order; `asked` is the scope before them, and the limit."""
    rows = await tx.fetch("select scope from audit_chain where scope > $1 order by scope limit $2", *asked)
    return [row["scope"] for row in rows]


async def list_headless(tx: Transaction, limit: int) -> list[str]:
    """Workspaces whose chain has no head: nothing was ever recorded there, or the head is lost."""
    rows = await tx.fetch(_HEADLESS, limit)
    return [row["scope"] for row in rows]


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
