"""Vectors in a store of their own: the index that keeps them in step with the documents in the database.

The store and the database have no common transaction, so a vector can arrive when its document has long moved on:

1. Before the write, and again after it, the index looks whether the version is of use still. A version that is of no
   use never is again (`documents.useless`), so what the look finds can be deleted without a lock, however late. A
   version that becomes useless after the look is deleted by the job that this starts, which finds what was written.
2. What comes so late that nobody looks (the worker died after the write; the store finished a request that its client
   had given up) is found by a sweep, which reads the versions of all vectors and looks at each.

Until then such vectors do no harm: search joins what it finds with the chunks in the database.
A vector whose document the database does not know is left alone, since it may be about to be told; after a restore
of an older database the collection is dropped, and a rebuild stores its vectors anew.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

from loguru import logger

from kgl_graph.db import documents
from kgl_graph.db.search_index import Embedded
from kgl_graph.stores.vector_store import VectorsRefused, VectorStore
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.statements import Statements
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.events.rebuild import Write

_SOON = 60.0  # seconds; what a crash left is swept soon after the next start, and an outage waited out


class SweptIndex:
    """The port VectorIndex on any VectorStore."""

    def __init__(self, database: Database, store: VectorStore) -> None:
        self._database = database
        self._store = store

    async def upsert(self, workspace: UUID, document: UUID, version: int, items: Sequence[Embedded]) -> None:
        if not items or await self._useless(workspace, [(document, version)]):
            return
        await self._store.put(workspace, document, version, items)
        await self._forget_useless(workspace, [(document, version)])

    async def search(self, workspace: UUID, vector: Sequence[float], most: int) -> list[UUID]:
        return await self._store.search(workspace, vector, most)

    async def delete(self, workspace: UUID, document: UUID, below_version: int) -> None:
        await self._store.delete(workspace, document, below=below_version)

    def kept_ids(self, workspace: UUID) -> AsyncIterator[Sequence[tuple[UUID, int, UUID]]]:
        return self._store.kept_ids(workspace)

    async def rebuild(self, workspace: UUID, document: UUID, version: int, items: Sequence[Embedded]) -> Write:
        """Vectors that are of no use are left to the live path and to the sweep: a rebuild may be given up."""
        await self.upsert(workspace, document, version, items)

        async def nothing(_: Statements) -> None:
            """All is written."""

        return nothing

    async def sweep(self) -> int:
        """Delete what is of no use, in all workspaces; the answer is how many versions of documents."""
        gone = 0
        for workspace in await self._store.workspaces():
            async for page in self._store.versions(workspace):
                gone += await self._forget_useless(workspace, sorted(page))
        return gone

    async def keep_swept(self, every: float) -> None:
        """Sweep soon, and then every so many seconds, until cancelled. Several workers may do so at the same time."""
        delay = random.uniform(0, min(every, _SOON))  # noqa: S311
        while True:
            await asyncio.sleep(delay)
            delay = every
            try:
                if gone := await self.sweep():
                    logger.bind(versions=gone).info("vectors.swept")
            except (Unavailable, VectorsRefused) as out:
                logger.bind(error=str(out)).warning("vectors.sweep_postponed")
                delay = min(every, _SOON)

    async def _forget_useless(self, workspace: UUID, versions: Sequence[tuple[UUID, int]]) -> int:
        useless = await self._useless(workspace, versions)
        for document, version in useless:
            await self._store.delete(workspace, document, least=version, below=version + 1)
        return len(useless)

    async def _useless(self, workspace: UUID, versions: Sequence[tuple[UUID, int]]) -> list[tuple[UUID, int]]:
        return await self._database.run(workspace, documents.useless, versions)
