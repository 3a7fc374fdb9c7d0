"""Statements of what should be in the object store."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from kgl_servicekit.database.transaction import Transaction

_VERSIONS = """
select v.document_id, v.version, v.state, v.object_key, v.chunks_object, v.text_object, v.media_type, v.charset
from document_version v join document d on d.workspace_id = v.workspace_id and d.id = v.document_id
where v.workspace_id = $1 and d.deleted_at is null and v.state in ('accepted', 'parsed')
"""


async def versions_after(tx: Transaction, place: tuple[UUID, int], limit: int) -> list[asyncpg.Record]:
    """The next versions of living documents that have objects or will have some."""
    return await tx.fetch(
        f"{_VERSIONS} and (v.document_id, v.version) > ($2, $3) order by v.document_id, v.version limit $4",
        tx.workspace,
        *place,
        limit,
    )


async def versions(tx: Transaction, places: Sequence[tuple[UUID, int]]) -> list[asyncpg.Record]:
    """These versions, as far as they are such."""
    return await tx.fetch(
        f"{_VERSIONS} and (v.document_id, v.version) in (select * from unnest($2::uuid[], $3::int[]))",
        tx.workspace,
        [document for document, _ in places],
        [version for _, version in places],
    )
