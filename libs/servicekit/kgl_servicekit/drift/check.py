"""What is asked of a check of drift, and what it answers.

A check looks twice. What a live write has changed between the looks, or is about to, differs in one of them, or in
another state; only what differs in both in the same state is drift.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from kgl_servicekit.database.engine import Database
from kgl_servicekit.events.snapshot import next_workspace

_BEFORE_ALL = UUID(int=0)


@dataclass(frozen=True, slots=True, order=True)
class Item:
    """One thing that differs: whose, which, and how, with the version where there is one.

    `source` is what its source says of it, for the repair.
    """

    workspace: UUID
    key: str
    state: str
    source: Any = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.workspace}/{self.key}: {self.state}"


ByHand = Mapping[str, str]
"""What is to be done, by state, where it is not `kgl drift --repair`, or not that alone."""


class DriftCheck(Protocol):
    """One comparison. All of it is read in pages, and may raise Unavailable."""

    @property
    def name(self) -> str:
        """`<service>.<what is compared>`."""
        ...

    @property
    def by_hand(self) -> ByHand:
        """What somebody has to do about the states that a repair may leave as they are."""
        ...

    def look(self) -> AsyncIterator[Sequence[Item]]:
        """The first look: what differs, in pages, some of which may be empty."""
        ...

    async def again(self, items: Sequence[Item]) -> Sequence[Item]:
        """The second look: those of these items that still differ, as they do now."""
        ...

    async def repair(self, items: Sequence[Item]) -> int:
        """Have them derived anew by the way of every day; twice does no harm. How many that was possible for."""
        ...


def by_workspace(items: Iterable[Item]) -> Mapping[UUID, list[Item]]:
    """The items of each workspace."""
    found: defaultdict[UUID, list[Item]] = defaultdict(list)
    for item in items:
        found[item.workspace].append(item)
    return found


async def workspaces(database: Database) -> AsyncIterator[UUID]:
    """All workspaces that the service has something of."""
    at = await database.run((), next_workspace, _BEFORE_ALL)
    while at is not None:
        yield at
        at = await database.run((), next_workspace, at)
