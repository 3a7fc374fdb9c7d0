"""Statements of documents and chunks."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from kgl_graph.domain.chunks import Chunk
from kgl_servicekit.database.transaction import Transaction

_HEAR = """
insert into document as d (workspace_id, document_id, version, deleted_at) values ($1, $2, $3, $4)
on conflict (workspace_id, document_id) do update
set version = greatest(d.version, excluded.version), deleted_at = coalesce(d.deleted_at, excluded.deleted_at)
returning version, deleted_at
"""

_ADD_CHUNKS = """
insert into chunk (workspace_id, id, document_id, version, ordinal, start, "end", title, text)
select $1, id, $2, $3, ordinal, start, stop, title, text
from unnest($4::uuid[], $5::int[], $6::int[], $7::int[], $8::text[], $9::text[])
  as i(id, ordinal, start, stop, title, text)
on conflict (workspace_id, id) do nothing
"""


async def hear(tx: Transaction, document: UUID, version: int, *, deleted: bool = False) -> bool:
    """Note a version, or the end, of a document, and lock its row; True when this version is the current one."""
    row = await tx.fetchrow(_HEAR, tx.workspace, document, version, tx.now if deleted else None)
    assert row is not None
    return row["deleted_at"] is None and row["version"] == version


async def lock(tx: Transaction, document: UUID) -> asyncpg.Record | None:
    """The document's row, locked to the end of the transaction."""
    return await tx.fetchrow(
        "select * from document where workspace_id = $1 and document_id = $2 for update", tx.workspace, document
    )


async def replace_chunks(tx: Transaction, document: UUID, version: int, chunks: Sequence[Chunk]) -> None:
    """These are the document's chunks now."""
    await remove_chunks(tx, document)
    await tx.execute(
        _ADD_CHUNKS,
        tx.workspace,
        document,
        version,
        [chunk.id for chunk in chunks],
        [chunk.ordinal for chunk in chunks],
        [chunk.start for chunk in chunks],
        [chunk.end for chunk in chunks],
        [chunk.title or "" for chunk in chunks],
        [chunk.text for chunk in chunks],
    )
    await tx.execute(
        "update document set indexed_version = $3 where workspace_id = $1 and document_id = $2",
        tx.workspace,
        document,
        version,
    )


async def remove_chunks(tx: Transaction, document: UUID) -> None:
    """The document cannot be found by search any more."""
    await tx.execute("delete from chunk where workspace_id = $1 and document_id = $2", tx.workspace, document)


async def chunk_lengths(tx: Transaction, document: UUID, version: int) -> dict[UUID, int]:
    """The length of the text of each chunk of an indexed version, in characters."""
    rows = await tx.fetch(
        """select id, char_length(text) as length from chunk
           where workspace_id = $1 and document_id = $2 and version = $3""",
        tx.workspace,
        document,
        version,
    )
    return {row["id"]: row["length"] for row in rows}


async def search_text(tx: Transaction, words: str, most: int) -> list[UUID]:
    """Chunks by text rank, best first."""
    rows = await tx.fetch("select id from kgl_search_text($1, $2)", words, most)
    return [row["id"] for row in rows]


async def find_chunks(tx: Transaction, ids: Sequence[UUID]) -> dict[UUID, asyncpg.Record]:
    """Those of these chunks that are indexed."""
    rows = await tx.fetch(
        """select id, document_id, version, ordinal, start, "end", title, text from chunk
           where workspace_id = $1 and id = any($2::uuid[])""",
        tx.workspace,
        list(ids),
    )
    return {row["id"]: row for row in rows}
