"""Statements of documents and of the reading of chunks."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from kgl_servicekit.database.transaction import Transaction

_HEAR = """
insert into document as d (workspace_id, document_id, version, parsed_version, deleted_at)
values ($1, $2, $3, $4, $5)
on conflict (workspace_id, document_id) do update
set version = greatest(d.version, excluded.version),
    parsed_version = greatest(d.parsed_version, excluded.parsed_version),
    deleted_at = coalesce(d.deleted_at, excluded.deleted_at)
returning version, parsed_version, deleted_at
"""


# true for ever: versions only grow, the end is the end, and nothing but the newest parsed version is made searchable
_USELESS = """
select i.document_id, i.version
from unnest($2::uuid[], $3::int[]) as i(document_id, version)
join document d on d.workspace_id = $1 and d.document_id = i.document_id
left join indexed_document x on x.workspace_id = $1 and x.document_id = i.document_id
where d.deleted_at is not null or (i.version < d.parsed_version and i.version is distinct from x.version)
"""


@dataclass(frozen=True, slots=True)
class Heard:
    """How a version stands among all that was heard of its document.

    `newest` while no greater version was heard of, by whatever event; `current` when it is the newest parsed one, of
    which search and graph tell. Neither is true of a document that is gone.
    """

    newest: bool
    current: bool


async def hear(tx: Transaction, document: UUID, version: int, *, parsed: bool = False, deleted: bool = False) -> Heard:
    """Note a version, its text, or the end of a document, and lock its row."""
    row = await tx.fetchrow(
        _HEAR, tx.workspace, document, version, version if parsed else None, tx.now if deleted else None
    )
    assert row is not None
    living = row["deleted_at"] is None
    return Heard(living and row["version"] == version, living and row["parsed_version"] == version)


async def lock(tx: Transaction, document: UUID) -> asyncpg.Record | None:
    """The document's row, locked to the end of the transaction."""
    return await tx.fetchrow(
        "select * from document where workspace_id = $1 and document_id = $2 for update", tx.workspace, document
    )


async def is_current(tx: Transaction, document: UUID, version: int) -> bool:
    """Whether this is the newest parsed version of a document that is not gone; it stays so until the commit."""
    row = await lock(tx, document)
    return row is not None and row["deleted_at"] is None and row["parsed_version"] == version


async def useless(tx: Transaction, versions: Sequence[tuple[UUID, int]]) -> list[tuple[UUID, int]]:
    """Those of these documents' versions that search never needs again: gone, or replaced and not searchable now."""
    documents, numbers = [document for document, _ in versions], [version for _, version in versions]
    rows = await tx.fetch(_USELESS, tx.workspace, documents, numbers)
    return [(row["document_id"], row["version"]) for row in rows]


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
