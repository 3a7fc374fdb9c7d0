"""Where the vectors of chunks are kept and searched: the port, and the pgvector adapter."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Protocol
from uuid import UUID

from kgl_graph.db import documents
from kgl_graph.db.search_index import NEXT, PRESENT, Embedded, vector_text
from kgl_graph.jobs.declared import EVERY_VERSION
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.statements import Statements
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.rebuild import Write

_PAGE = 1000

_EXACT = """
with mine as materialized (select chunk_id, embedding from chunk_vector where workspace_id = $1)
select chunk_id from mine order by embedding <=> $2::text::vector, chunk_id limit $3
"""

_APPROXIMATE = """
select chunk_id from chunk_vector where workspace_id = $1 order by embedding <=> $2::text::vector limit $3
"""


class VectorIndex(Protocol):
    """Vectors by workspace and chunk. Storing a chunk again replaces its vector."""

    async def upsert(self, workspace: UUID, document: UUID, version: int, items: Sequence[Embedded]) -> None:
        """Keep the vectors of a version that is the newest parsed one of a document that is not gone.

        A worker that was stopped may go on when `delete` has long been called for what it holds. An adapter that
        cannot look at the document and write in one transaction has to be swept of what comes so late
        (`stores/swept_index.py`).
        """
        ...

    async def search(self, workspace: UUID, vector: Sequence[float], most: int) -> list[UUID]:
        """The chunks nearest by cosine, nearest first."""
        ...

    async def delete(self, workspace: UUID, document: UUID, below_version: int) -> None:
        """Forget the vectors of a document's versions before this one."""
        ...

    def kept_ids(self, workspace: UUID) -> AsyncIterator[Sequence[tuple[UUID, int, UUID]]]:
        """Document, version and chunk of all vectors of a workspace, page by page."""
        ...

    async def rebuild(self, workspace: UUID, document: UUID, version: int, items: Sequence[Embedded]) -> Write:
        """Do what a rebuild of the search index needs outside of its transaction; the answer does the rest in it.

        When the rebuild has swapped its tables in, these are the vectors of the document; without items it has none.
        """
        ...


class _TooLate(Exception):
    """The version is not current any more; nothing of its vectors may be kept."""


class PgVectorIndex:
    """pgvector in the service's own database: exact for small workspaces, HNSW with iterative scan for others."""

    def __init__(self, database: Database, *, exact_below: int) -> None:
        self._database = database
        self._exact_below = exact_below

    async def upsert(self, workspace: UUID, document: UUID, version: int, items: Sequence[Embedded]) -> None:
        async def write(tx: Transaction, items: Sequence[Embedded]) -> None:
            await PRESENT.put_vectors(tx, document, version, items)
            # looked at last, so that nobody waits for the row while an index is written
            if not await documents.is_current(tx, document, version):
                raise _TooLate

        if items:
            with contextlib.suppress(_TooLate):
                await self._database.run(workspace, write, items)

    async def search(self, workspace: UUID, vector: Sequence[float], most: int) -> list[UUID]:
        async def find(tx: Transaction, vector: str) -> list[UUID]:
            count = await tx.fetchval(
                "select count(*) from (select from chunk_vector where workspace_id = $1 limit $2) as counted",
                tx.workspace,
                self._exact_below,
            )
            if count < self._exact_below:
                return [row["chunk_id"] for row in await tx.fetch(_EXACT, tx.workspace, vector, most)]
            await tx.execute("set local hnsw.iterative_scan = strict_order")
            return [row["chunk_id"] for row in await tx.fetch(_APPROXIMATE, tx.workspace, vector, most)]

        return await self._database.run(workspace, find, vector_text(vector))

    async def delete(self, workspace: UUID, document: UUID, below_version: int) -> None:
        async def forget(tx: Transaction, below: int) -> None:
            await PRESENT.remove_vectors(tx, document, below)

        await self._database.run(workspace, forget, below_version)

    async def kept_ids(self, workspace: UUID) -> AsyncIterator[Sequence[tuple[UUID, int, UUID]]]:
        async def read(tx: Transaction, after: UUID) -> list[tuple[UUID, int, UUID]]:
            return await PRESENT.kept_vectors(tx, after, _PAGE)

        after = UUID(int=0)
        while page := await self._database.run(workspace, read, after):
            yield page
            after = page[-1][2]

    async def rebuild(self, workspace: UUID, document: UUID, version: int, items: Sequence[Embedded]) -> Write:
        async def write(tx: Statements) -> None:
            await NEXT.remove_vectors(tx, document, EVERY_VERSION)
            await NEXT.put_vectors(tx, document, version, items)

        return write
