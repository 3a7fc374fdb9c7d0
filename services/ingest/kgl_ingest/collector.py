"""The loop that deletes files that nothing refers to, at a low rate.

A crash between any two of its steps is made good by the next pass: a marked file is deleted again, which does
nothing, and then forgotten. Several workers may collect at the same time.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from loguru import logger

from kgl_ingest.db import blobs
from kgl_ingest.db.blobs import Doomed
from kgl_ingest.domain.documents import OBJECTS, workspace_of_key
from kgl_ingest.metrics import COLLECTED, COLLECTED_BYTES
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.objects.orphans import Orphans
from kgl_servicekit.objects.port import ObjectStore


@dataclass(frozen=True, slots=True)
class BlobCollector:
    """Deletes what is older than `age`, at most `most` objects in a pass."""

    database: Database
    objects: ObjectStore
    age: timedelta
    most: int = 1000

    async def run(self, every: float, list_every: float) -> None:
        """Collect every so many seconds, and compare the store with the tables more rarely, until cancelled.

        The first comparison is in the second pass, so that a worker that often starts anew comes to it, too.
        """
        next_listing = time.monotonic() + every
        while True:
            try:
                await self.collect()
                if time.monotonic() >= next_listing:
                    next_listing = time.monotonic() + list_every
                    await self.collect_orphans()
            except Unavailable as out:
                logger.bind(error=str(out)).warning("collector.paused")
            await asyncio.sleep(every)

    async def collect(self) -> int:
        """Mark, delete and forget files that no document has; how many objects went."""
        gone = 0
        for workspace in await self.database.run((), self._workspaces, None):
            await self.mark(workspace)
            marked = await self.marked(workspace)
            await self.delete(marked, "unreferenced")
            await self.forget(workspace, marked)
            gone += len(marked)
            if gone >= self.most:
                break
        return gone

    async def mark(self, workspace: UUID) -> None:
        """First step, committed: no upload uses these files any more."""
        await self.database.run(workspace, self._mark, None)

    async def marked(self, workspace: UUID) -> list[Doomed]:
        """What is marked by now, here or before a crash."""
        return await self.database.run(workspace, blobs.deleting, self.most)

    async def delete(self, doomed: list[Doomed], reason: str) -> None:
        """Second step: the objects go."""
        for file in doomed:
            await self.objects.delete(file.key)
            COLLECTED.labels(reason).inc()
            COLLECTED_BYTES.labels(reason).inc(file.size)
        if doomed:
            logger.bind(reason=reason, objects=len(doomed)).info("collector.deleted")

    async def forget(self, workspace: UUID, doomed: list[Doomed]) -> None:
        """Third step: their rows go."""
        await self.database.run(workspace, blobs.forget, [file.key for file in doomed])

    async def collect_orphans(self) -> int:
        """Delete old objects that no row names: their transaction never came to its end. How many went."""
        gone = 0
        orphans = Orphans(
            objects=self.objects,
            database=self.database,
            folder=f"{OBJECTS}/",
            workspace_of=workspace_of_key,
            unknown=blobs.unknown,
            age=self.age,
        )
        async for found in orphans.find():
            doomed = [Doomed(entry.key, entry.size) for entry in found[: self.most - gone]]
            await self.delete(doomed, "orphan")
            gone += len(doomed)
            if gone >= self.most:
                break
        return gone

    async def _workspaces(self, tx: Transaction, _: None) -> list[UUID]:
        return await blobs.collectable_workspaces(tx, self.age, self.most)

    async def _mark(self, tx: Transaction, _: None) -> None:
        await blobs.mark_old(tx, self.age, self.most)
