"""Entities, relations and mentions anew: each result that a module gave is linked again, in the place of what is there.

A document is done in one transaction, as when it was linked first, so readers and the live path go on. What no result
of the newest parsed version says is left as it is, when its document lives: a result that is not there yet replaces it
when it comes, and what people stated has no other source. Then goes what no source speaks of.
"""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from kgl_contracts.ai import Extraction
from kgl_graph.db import drift
from kgl_graph.use_cases.forget_document import forget_document
from kgl_graph.use_cases.link_extraction import LinkExtraction, link_extraction
from kgl_graph.use_cases.mend_graph import remove_entities, remove_relations
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.drift.check import workspaces
from kgl_servicekit.errors import JobFailed
from kgl_servicekit.events.rebuild import RebuildIncomplete
from kgl_servicekit.objects.port import ObjectMissing, ObjectStore
from kgl_servicekit.objects.within import read_within
from kgl_servicekit.places import results_folder

TABLES = ("entity", "mention", "relation")
_PAGE = 200
Keys = Callable[[Transaction, UUID, int], Awaitable[Sequence[UUID]]]


@dataclass(frozen=True, slots=True)
class LinksAnew:
    """Links all results of all workspaces again."""

    database: Database
    objects: ObjectStore

    async def run(self) -> int:
        """How many results were linked. Raises RebuildIncomplete, in the end, for those that cannot be read."""
        linked = 0
        missing: list[str] = []
        async for workspace in workspaces(self.database):
            async for documents in self._pages(workspace, drift.known_documents):
                for row in await self.database.run(workspace, drift.results, documents):
                    if await self._link(workspace, row):
                        linked += 1
                    else:
                        missing.append(f"{workspace}/{row['document_id']}")
            await self._remove(workspace)
        if missing:
            raise RebuildIncomplete(tuple(missing))
        return linked

    async def _link(self, workspace: UUID, row: asyncpg.Record) -> bool:
        """False when the result is not there, or not the one that was given."""
        folder = results_folder(workspace, row["id"])
        try:
            content = await read_within(self.objects, folder, row["result_object"])
        except (ObjectMissing, JobFailed):
            return False
        if hashlib.sha256(content).hexdigest() != row["result_sha256"]:
            return False
        command = LinkExtraction(
            document_id=row["document_id"],
            version=row["version"],
            module=row["module"],
            sha256=row["result_sha256"],
            extraction=Extraction.model_validate_json(content),
            again=True,
        )
        await self.database.run(workspace, link_extraction, command)
        return True

    async def _remove(self, workspace: UUID) -> None:
        """What is said of documents that are gone, and then what nobody speaks of."""
        async for documents in self._pages(workspace, drift.speaking_documents):
            for document in await self.database.run(workspace, drift.gone, documents):
                await self.database.run(workspace, forget_document, document)
        async for entities in self._pages(workspace, drift.all_entities):
            await self.database.run(workspace, remove_entities, entities)
        async for relations in self._pages(workspace, drift.all_relations):
            await self.database.run(workspace, remove_relations, relations)

    async def _pages(self, workspace: UUID, keys: Keys) -> AsyncIterator[Sequence[UUID]]:
        async def read(tx: Transaction, after: UUID) -> Sequence[UUID]:
            return await keys(tx, after, _PAGE)

        after = UUID(int=0)
        while found := await self.database.run(workspace, read, after):
            yield found
            after = found[-1]
