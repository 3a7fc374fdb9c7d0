"""The graph service with vectors that fail as a file says: `out`, `slow`, `429`, `partial`, or `ok`.

`FAULTS_VECTORS` names the file. It stands before the port, so that a store that nobody has here can be out.
"""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from kgl_graph.bootstrap import build
from kgl_graph.db.search_index import Embedded
from kgl_graph.settings import GraphSettings
from kgl_graph.stores.vectors import VectorIndex
from kgl_servicekit.bus.port import Bus
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.service import Service, main

_SLOW = 3.0


class FailingVectors:
    """As the store behind it, when nothing is wrong."""

    def __init__(self, vectors: VectorIndex, switch: Path) -> None:
        self._vectors = vectors
        self._switch = switch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vectors, name)

    async def upsert(self, workspace: UUID, document: UUID, version: int, items: Sequence[Embedded]) -> None:
        mode = await self._fail()
        if mode == "partial":
            await self._vectors.upsert(workspace, document, version, items[: len(items) // 2])
            raise Unavailable("the vector store took a part of the batch", retry_after=1)
        await self._vectors.upsert(workspace, document, version, items)

    async def search(self, workspace: UUID, vector: Sequence[float], most: int) -> list[UUID]:
        await self._fail()
        return await self._vectors.search(workspace, vector, most)

    async def delete(self, workspace: UUID, document: UUID, below_version: int) -> None:
        await self._fail()
        await self._vectors.delete(workspace, document, below_version)

    async def _fail(self) -> str:
        mode = self._switch.read_text() if self._switch.exists() else "ok"
        if mode == "slow":
            await asyncio.sleep(_SLOW)
        if mode in ("out", "429", "slow"):
            raise Unavailable(f"the vector store is {mode}", retry_after=1)
        return mode


def build_failing(settings: GraphSettings, bus: Bus) -> Service:
    """The graph service."""
    service = build(settings, bus)
    vectors = FailingVectors(service.outside.vectors, Path(os.environ["FAULTS_VECTORS"]))
    return replace(service, outside=replace(service.outside, vectors=vectors))


if __name__ == "__main__":
    main(GraphSettings, build_failing)
