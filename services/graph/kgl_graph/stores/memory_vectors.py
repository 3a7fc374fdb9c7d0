"""Vectors in memory, for tests: all of a workspace are compared."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from kgl_graph.db.search_index import Embedded
from kgl_graph.stores.vector_store import VectorsUnavailable


@dataclass(frozen=True, slots=True, order=True)
class Kept:
    """One vector, and whose it is."""

    document: UUID
    version: int
    vector: tuple[float, ...]


class MemoryVectors:
    """A VectorStore that lasts as long as its process; `out` makes it unreachable."""

    def __init__(self) -> None:
        self.kept: defaultdict[UUID, dict[UUID, Kept]] = defaultdict(dict)
        self.out = False

    async def put(self, workspace: UUID, document: UUID, version: int, items: Sequence[Embedded]) -> None:
        self._reach()
        self.kept[workspace] |= {item.chunk_id: Kept(document, version, tuple(item.vector)) for item in items}

    async def search(self, workspace: UUID, vector: Sequence[float], most: int) -> list[UUID]:
        self._reach()
        wanted = np.array(vector)
        distances = []
        for chunk, kept in self.kept[workspace].items():
            found = np.array(kept.vector)
            distances.append((1 - found @ wanted / (np.linalg.norm(found) * np.linalg.norm(wanted)), chunk))
        return [chunk for _, chunk in sorted(distances)[:most]]

    async def delete(self, workspace: UUID, document: UUID, *, least: int = 0, below: int) -> None:
        self._reach()
        self.kept[workspace] = {
            chunk: kept
            for chunk, kept in self.kept[workspace].items()
            if kept.document != document or not least <= kept.version < below
        }

    async def workspaces(self) -> list[UUID]:
        self._reach()
        return list(self.kept)

    async def versions(self, workspace: UUID) -> AsyncIterator[set[tuple[UUID, int]]]:
        self._reach()
        yield {(kept.document, kept.version) for kept in self.kept[workspace].values()}

    async def kept_ids(self, workspace: UUID) -> AsyncIterator[Sequence[tuple[UUID, int, UUID]]]:
        self._reach()
        yield [(kept.document, kept.version, chunk) for chunk, kept in self.kept[workspace].items()]

    def _reach(self) -> None:
        if self.out:
            raise VectorsUnavailable(retry_after=1)
