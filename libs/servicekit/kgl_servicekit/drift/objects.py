"""Drift between the object store and the rows that name its objects."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from kgl_servicekit.drift.check import ByHand, Item, by_workspace
from kgl_servicekit.objects.orphans import Orphans

_NOBODYS = "no row names it"


@dataclass(frozen=True, slots=True)
class OrphanCheck:
    """Objects that no row names and that the collector, which deletes such, has left. The repair does its work."""

    name: str
    orphans: Orphans
    by_hand: ByHand = field(default_factory=dict)

    async def look(self) -> AsyncIterator[Sequence[Item]]:
        async for entries in self.orphans.find():
            found = []
            for entry in entries:
                workspace = self.orphans.workspace_of(entry.key)
                assert workspace is not None  # others are never found
                found.append(Item(workspace, entry.key, _NOBODYS))
            yield found

    async def again(self, items: Sequence[Item]) -> Sequence[Item]:
        found: list[Item] = []
        for workspace, mine in by_workspace(items).items():
            unknown = await self.orphans.database.run(workspace, self.orphans.unknown, [item.key for item in mine])
            found += [item for item in mine if item.key in unknown and await self.orphans.objects.stat(item.key)]
        return found

    async def repair(self, items: Sequence[Item]) -> int:
        for item in items:
            await self.orphans.objects.delete(item.key)
        return len(items)
