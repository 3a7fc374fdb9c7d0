"""Objects that no row names: they were stored, and their transaction never came to its end."""

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.objects.port import ObjectEntry, ObjectStore

_BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphans:
    """How the orphans among the objects below `folder` are found.

    workspace_of   whose object lies under a key; None for what is none of the service's
    unknown        those of these keys of the transaction's workspace that no row names, and none will
    age            of the youngest object that is looked at; a younger one's transaction may be on its way
    """

    objects: ObjectStore
    database: Database
    folder: str
    workspace_of: Callable[[str], UUID | None]
    unknown: Callable[[Transaction, Sequence[str]], Awaitable[set[str]]]
    age: timedelta

    async def find(self) -> AsyncIterator[list[ObjectEntry]]:
        """The orphans, in batches."""
        async for workspace, entries in self._old():
            unknown = await self.database.run(workspace, self.unknown, [entry.key for entry in entries])
            yield [entry for entry in entries if entry.key in unknown]

    async def _old(self) -> AsyncIterator[tuple[UUID, list[ObjectEntry]]]:
        """Old objects in batches, each of one workspace."""
        before = time.time() - self.age.total_seconds()
        batches: defaultdict[UUID, list[ObjectEntry]] = defaultdict(list)
        async for entry in self.objects.listed(self.folder):
            workspace = self.workspace_of(entry.key)
            if workspace is None or entry.modified_at >= before:
                continue
            batches[workspace].append(entry)
            if len(batches[workspace]) == _BATCH:
                yield workspace, batches.pop(workspace)
        for workspace, entries in batches.items():
            yield workspace, entries
