"""The search index: which version of a document can be found, its chunks and their vectors.

Its tables can be rebuilt (`kgl_graph/rebuilds/search.py`): the same statements then write to shadow tables.
`chunk_vector` is there where pgvector keeps the vectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from kgl_graph.domain.chunks import Chunk
from kgl_servicekit.database.statements import Statements, rows_of
from kgl_servicekit.database.transaction import Transaction

TABLES = ("chunk", "chunk_vector", "indexed_document")

_REMOVE = """
delete from chunk{suffix} where workspace_id = $1 and document_id = $2
"""

_ADD = """
insert into chunk{suffix} (workspace_id, id, document_id, version, ordinal, start, "end", title, text)
select $1, id, $2, $3, ordinal, start, stop, title, text
from unnest($4::uuid[], $5::int[], $6::int[], $7::int[], $8::text[], $9::text[])
  as i(id, ordinal, start, stop, title, text)
on conflict (workspace_id, id) do nothing
"""

_NOTE = """
insert into indexed_document{suffix} (workspace_id, document_id, version) values ($1, $2, $3)
on conflict (workspace_id, document_id) do update set version = excluded.version
"""

_VECTORS = """
insert into chunk_vector{suffix} (workspace_id, chunk_id, document_id, version, embedding)
select $1, chunk_id, $2, $3, embedding::vector from unnest($4::uuid[], $5::text[]) as i(chunk_id, embedding)
order by chunk_id
on conflict (workspace_id, chunk_id) do update set embedding = excluded.embedding
"""


@dataclass(frozen=True, slots=True)
class Embedded:
    """A chunk and its vector."""

    chunk_id: UUID
    vector: Sequence[float]


@dataclass(frozen=True, slots=True)
class SearchIndex:
    """The tables that are searched, or with a suffix those that are being rebuilt."""

    suffix: str = ""

    async def version(self, tx: Statements, document: UUID) -> int | None:
        """The version of a document that can be found."""
        found: int | None = await tx.fetchval(
            self._sql("select version from indexed_document{suffix} where workspace_id = $1 and document_id = $2"),
            tx.workspace,
            document,
        )
        return found

    async def replace(self, tx: Statements, document: UUID, version: int, chunks: Sequence[Chunk]) -> None:
        """These are the document's chunks now."""
        await tx.execute(self._sql(_REMOVE), tx.workspace, document)
        await tx.execute(
            self._sql(_ADD),
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
        await tx.execute(self._sql(_NOTE), tx.workspace, document, version)

    async def remove(self, tx: Statements, document: UUID) -> int:
        """The document cannot be found any more; the answer is how many chunks went."""
        removed = await tx.execute(self._sql(_REMOVE), tx.workspace, document)
        await tx.execute(
            self._sql("delete from indexed_document{suffix} where workspace_id = $1 and document_id = $2"),
            tx.workspace,
            document,
        )
        return rows_of(removed)

    async def put_vectors(self, tx: Statements, document: UUID, version: int, items: Sequence[Embedded]) -> None:
        """Keep the vectors of chunks; a vector that is there already is replaced."""
        ids = [item.chunk_id for item in items]
        texts = [vector_text(item.vector) for item in items]
        await tx.execute(self._sql(_VECTORS), tx.workspace, document, version, ids, texts)

    async def kept_vectors(self, tx: Statements, after: UUID, limit: int) -> list[tuple[UUID, int, UUID]]:
        """Document, version and chunk of the next vectors after that of a chunk."""
        rows = await tx.fetch(
            self._sql(
                """select document_id, version, chunk_id from chunk_vector{suffix}
                   where workspace_id = $1 and chunk_id > $2 order by chunk_id limit $3"""
            ),
            tx.workspace,
            after,
            limit,
        )
        return [(row["document_id"], row["version"], row["chunk_id"]) for row in rows]

    async def remove_vectors(self, tx: Statements, document: UUID, below_version: int) -> None:
        """Forget the vectors of a document's versions before this one."""
        await tx.execute(
            self._sql("delete from chunk_vector{suffix} where workspace_id = $1 and document_id = $2 and version < $3"),
            tx.workspace,
            document,
            below_version,
        )

    def _sql(self, statement: str) -> str:
        return statement.replace("{suffix}", self.suffix)


PRESENT = SearchIndex()
NEXT = SearchIndex("_next")


async def present_chunks(tx: Transaction, place: tuple[UUID, int]) -> list[Chunk] | None:
    """The chunks of a version that can be found; None when it is not the one."""
    document, version = place
    if await PRESENT.version(tx, document) != version:
        return None
    rows = await tx.fetch(
        """select id, ordinal, start, "end", nullif(title, '') as title, text from chunk
           where workspace_id = $1 and document_id = $2 and version = $3 order by ordinal""",
        tx.workspace,
        document,
        version,
    )
    return [Chunk(**dict(row)) for row in rows]


def vector_text(vector: Sequence[float]) -> str:
    """A vector as pgvector reads it."""
    return "[" + ",".join(format(value, ".7g") for value in vector) + "]"
