"""What is compared in ingest to find drift: the versions of documents and the objects that they name, both ways."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import asyncpg

from kgl_ingest.db import blobs, drift
from kgl_ingest.domain.documents import OBJECTS, workspace_of_key
from kgl_ingest.jobs.declared import ParseDocument
from kgl_ingest.settings import IngestSettings
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.drift.check import ByHand, DriftCheck, Item, by_workspace, workspaces
from kgl_servicekit.drift.objects import OrphanCheck
from kgl_servicekit.objects.orphans import Orphans
from kgl_servicekit.objects.port import ObjectStore

_PAGE = 500
_BEFORE_ALL = (UUID(int=0), 0)
_FILE, _PARSED = "its file is missing", "its text or chunks are missing"
_FILE_BY_HAND = "put the lost file back under its key, from a copy of the object store, or delete the document"


def drift_checks(database: Database, objects: ObjectStore, settings: IngestSettings) -> list[DriftCheck]:
    """Objects without rows, and rows without objects."""
    orphans = Orphans(
        objects=objects,
        database=database,
        folder=f"{OBJECTS}/",
        workspace_of=workspace_of_key,
        unknown=blobs.unknown,
        age=timedelta(seconds=settings.collect_after + 2 * settings.compare_every),
    )
    return [FileCheck(database, objects), OrphanCheck("ingest.objects", orphans)]


@dataclass(frozen=True, slots=True)
class FileCheck:
    """Versions whose file, text or chunks are not in the store.

    The store is listed once for a workspace; what came since is asked for one by one in the second look. What parsing
    made is made again from the file; a file that is missing can only come back from a copy.
    """

    database: Database
    objects: ObjectStore
    name: str = "ingest.files"
    by_hand: ByHand = field(default_factory=lambda: {_FILE: _FILE_BY_HAND})

    async def look(self) -> AsyncIterator[Sequence[Item]]:
        async for workspace in workspaces(self.database):
            at = _BEFORE_ALL
            there = {entry.key async for entry in self.objects.listed(f"{OBJECTS}/{workspace}/")}
            while rows := await self._page(workspace, at):
                yield [item for row in rows if (item := _item(workspace, row, _missing(row, there))) is not None]
                at = rows[-1]["document_id"], rows[-1]["version"]

    async def again(self, items: Sequence[Item]) -> Sequence[Item]:
        found = []
        for workspace, mine in by_workspace(items).items():
            for row in await self._rows(workspace, mine):
                keys = [row[name] for name in ("object_key", "chunks_object", "text_object") if row[name]]
                there = {key for key in keys if await self.objects.stat(key) is not None}
                item = _item(workspace, row, _missing(row, there))
                found += [] if item is None else [item]
        return found

    async def repair(self, items: Sequence[Item]) -> int:
        mendable = [item for item in items if item.state == _PARSED]
        for workspace, mine in by_workspace(mendable).items():
            await self.database.run(workspace, _parse_again, await self._rows(workspace, mine))
        return len(mendable)

    async def _page(self, workspace: UUID, at: tuple[UUID, int]) -> list[asyncpg.Record]:
        async def read(tx: Transaction, at: tuple[UUID, int]) -> list[asyncpg.Record]:
            return await drift.versions_after(tx, at, _PAGE)

        return await self.database.run(workspace, read, at)

    async def _rows(self, workspace: UUID, items: Sequence[Item]) -> list[asyncpg.Record]:
        places = [(UUID(document), int(version)) for document, _, version in (i.key.partition("/") for i in items)]
        return await self.database.run(workspace, drift.versions, places)


def _missing(row: asyncpg.Record, there: set[str]) -> str | None:
    if row["object_key"] not in there:
        return _FILE
    made = [row[name] for name in ("chunks_object", "text_object")]
    return _PARSED if row["state"] == "parsed" and not there.issuperset(made) else None


def _item(workspace: UUID, row: asyncpg.Record, missing: str | None) -> Item | None:
    return None if missing is None else Item(workspace, f"{row['document_id']}/{row['version']}", missing)


async def _parse_again(tx: Transaction, rows: Sequence[asyncpg.Record]) -> None:
    for row in rows:
        job = ParseDocument(
            document_id=row["document_id"],
            version=row["version"],
            media_type=row["media_type"],
            charset=row["charset"],
            object_key=row["object_key"],
        )
        await tx.start_job(job)
