"""Statements of requests to modules."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg

from kgl_graph.domain.results import request_of_key
from kgl_servicekit.database.statements import rows_of
from kgl_servicekit.database.transaction import Transaction

_LEASE = """
with picked as (
    select workspace_id, id from ai_request
    where workspace_id = any($1::uuid[]) and state = 'ready' and module = any($2::text[])
      and capability = any($3::text[]) and deadline_at > now()
    order by created_at, id limit $4 for update skip locked
)
update ai_request r
set state = 'leased', token = token + 1, attempt = attempt + 1, holder = $5,
    lease_until = now() + $6 * interval '1 second'
from picked where r.workspace_id = picked.workspace_id and r.id = picked.id
returning r.*
"""


async def add(tx: Transaction, row: dict[str, Any], *, wanted: bool) -> bool:
    """A new request, superseded from the start when it is not wanted; False when it exists already."""
    tag = await tx.execute(
        """insert into ai_request (workspace_id, id, document_id, version, module, capability, state, mode, token,
                                   attempt, failures, deadline_at, chunks_url, operation_id, created_at,
                                   ended_at)
           values ($1, $2, $3, $4, $5, $6, case when $12 then 'waiting' else 'superseded' end, $7, 0, 0, 0,
                   now() + $8 * interval '1 second', $9, $10, $11, case when $12 then null else now() end)
           on conflict do nothing""",
        tx.workspace,
        row["id"],
        row["document_id"],
        row["version"],
        row["module"],
        row["capability"],
        row["mode"],
        row["deadline_seconds"],
        row["chunks_url"],
        tx.cause.operation_id,
        tx.now,
        wanted,
    )
    return tag == "INSERT 0 1"


async def make_ready(tx: Transaction, document: UUID, version: int) -> None:
    """The chunks are indexed: modules may work on this version."""
    await tx.execute(
        """update ai_request set state = 'ready'
           where workspace_id = $1 and document_id = $2 and version = $3 and state = 'waiting'""",
        tx.workspace,
        document,
        version,
    )


async def supersede(tx: Transaction, document: UUID, below_version: int) -> list[asyncpg.Record]:
    """End the open requests of a document's versions before this one; the answer is which."""
    return await tx.fetch(
        """update ai_request set state = 'superseded', ended_at = now(), lease_until = null
           where workspace_id = $1 and document_id = $2 and version < $3 and state in ('waiting', 'ready', 'leased')
           returning *""",
        tx.workspace,
        document,
        below_version,
    )


async def cancel(tx: Transaction, document: UUID, version: int) -> list[asyncpg.Record]:
    """End the open requests about one version of a document; the answer is which."""
    return await tx.fetch(
        """update ai_request set state = 'cancelled', ended_at = now(), lease_until = null
           where workspace_id = $1 and document_id = $2 and version = $3 and state in ('waiting', 'ready', 'leased')
           returning *""",
        tx.workspace,
        document,
        version,
    )


async def about(tx: Transaction, document: UUID) -> list[UUID]:
    """The requests about a document."""
    rows = await tx.fetch(
        "select id from ai_request where workspace_id = $1 and document_id = $2 order by id", tx.workspace, document
    )
    return [row["id"] for row in rows]


async def forget_results(tx: Transaction, document: UUID) -> int:
    """The stored results about a document are gone; the answer is how many there were."""
    tag = await tx.execute(
        """update ai_request set result_object = null, result_sha256 = null
           where workspace_id = $1 and document_id = $2 and result_object is not null""",
        tx.workspace,
        document,
    )
    return rows_of(tag)


async def unknown_results(tx: Transaction, keys: Sequence[str]) -> set[str]:
    """Those of these results of the workspace that no request names, or one about a deleted document."""
    rows = await tx.fetch(
        """select key from unnest($2::text[], $3::uuid[]) as k(key, request) where not exists (
               select from ai_request r
               left join document d on d.workspace_id = r.workspace_id and d.document_id = r.document_id
               where r.workspace_id = $1 and r.id = k.request and r.result_object = k.key and d.deleted_at is null)""",
        tx.workspace,
        list(keys),
        [request_of_key(key) for key in keys],
    )
    return {row["key"] for row in rows}


async def lease(
    tx: Transaction, modules: Sequence[str], capabilities: Sequence[str], most: int, holder: str, seconds: float
) -> list[asyncpg.Record]:
    """Take up to `most` ready requests of the transaction's workspaces."""
    return await tx.fetch(_LEASE, list(tx.workspaces), list(modules), list(capabilities), most, holder, seconds)


async def lock(tx: Transaction, request: UUID) -> asyncpg.Record | None:
    """The request, locked to the end of the transaction."""
    return await tx.fetchrow(
        "select * from ai_request where workspace_id = any($1::uuid[]) and id = $2 for update",
        list(tx.workspaces),
        request,
    )


async def operation_of(tx: Transaction, request: UUID) -> UUID | None:
    """The operation whose receipt tells of a request."""
    sql = "select operation_id from ai_request where workspace_id = $1 and id = $2"
    operation: UUID | None = await tx.fetchval(sql, tx.workspace, request)
    return operation


async def take(tx: Transaction, request: UUID, holder: str, seconds: float) -> tuple[int, int]:
    """Lease a locked request, whoever has it now; the answer is its token and the number of the attempt."""
    row = await tx.fetchrow(
        """update ai_request set state = 'leased', token = token + 1, attempt = attempt + 1, holder = $3,
                  lease_until = now() + $4 * interval '1 second'
           where workspace_id = $1 and id = $2 returning token, attempt""",
        tx.workspace,
        request,
        holder,
        seconds,
    )
    assert row is not None
    return row["token"], row["attempt"]


async def extend(tx: Transaction, request: UUID, token: int, seconds: float) -> bool:
    """Keep a lease; False when it is lost."""
    tag = await tx.execute(
        """update ai_request set lease_until = now() + $4 * interval '1 second'
           where workspace_id = $1 and id = $2 and token = $3 and state = 'leased'""",
        tx.workspace,
        request,
        token,
        seconds,
    )
    return tag == "UPDATE 1"


async def end(tx: Transaction, request: UUID, state: str, **result: str | None) -> None:
    """The request has its answer."""
    await tx.execute(
        """update ai_request set state = $3, result_object = $4, result_sha256 = $5, error = $6, ended_at = now(),
                  lease_until = null
           where workspace_id = $1 and id = $2""",
        tx.workspace,
        request,
        state,
        result.get("result_object"),
        result.get("result_sha256"),
        result.get("error"),
    )


async def give_back(tx: Transaction, request: UUID, error: str, *, failed: bool) -> None:
    """The request may be leased again."""
    await tx.execute(
        """update ai_request set state = 'ready', holder = null, lease_until = null, error = $3,
                  failures = failures + $4
           where workspace_id = $1 and id = $2""",
        tx.workspace,
        request,
        error,
        int(failed),
    )


async def overdue(tx: Transaction) -> list[asyncpg.Record]:
    """Requests whose lease or deadline is over, locked; those that somebody else looks at are left out."""
    return await tx.fetch(
        """select * from ai_request
           where workspace_id = any($1::uuid[])
             and ((state = 'leased' and lease_until < now())
                  or (state in ('waiting', 'ready', 'leased') and deadline_at < now()))
           order by workspace_id, id limit 200 for update skip locked""",
        list(tx.workspaces),
    )
