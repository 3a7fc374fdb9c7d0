"""Statements of snapshots."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from kgl_servicekit.database.transaction import Transaction

_PAGE = """
select d.id as document_id, d.version, d.deleted_at is not null as deleted, p.version as parsed_version,
       p.chunks_object, p.chunks_sha256 as sha256, p.chunk_count
from document d
left join lateral (
    select version, chunks_object, chunks_sha256, chunk_count from document_version v
    where v.workspace_id = d.workspace_id and v.document_id = d.id and d.deleted_at is null and v.state = 'parsed'
    order by version desc limit 1
) p on true
where d.workspace_id = $1 and d.id > $2
order by d.id limit $3
"""


async def page(tx: Transaction, after: UUID, limit: int) -> Sequence[asyncpg.Record]:
    """The workspace's documents after this one with their newest parsed version, deleted ones too."""
    return await tx.fetch(_PAGE, tx.workspace, after, limit)
