"""Drift between the chunks of searchable versions and their vectors, in whatever store these are."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg

from kgl_graph.db import drift
from kgl_graph.jobs.declared import EVERY_VERSION, EmbedChunks, ForgetVectors
from kgl_graph.stores.vectors import VectorIndex
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.drift.check import ByHand, Item, by_workspace, workspaces

_PAGE = 200
Print = tuple[int, int]
"""How many ids, and all of them in one number, whatever their order: so that a workspace fits into memory."""


@dataclass(frozen=True, slots=True)
class VectorCheck:
    """Versions whose vectors are not those of their chunks, and vectors of versions that nobody needs any more.

    The chunks are embedded again; useless vectors are forgotten as after a change of the document.
    """

    database: Database
    vectors: VectorIndex
    name: str = "graph.vectors"
    by_hand: ByHand = field(default_factory=dict)

    async def look(self) -> AsyncIterator[Sequence[Item]]:
        async for workspace in workspaces(self.database):
            async for page in self._of(workspace):
                yield page

    async def again(self, items: Sequence[Item]) -> Sequence[Item]:
        return [item for workspace in by_workspace(items) async for page in self._of(workspace) for item in page]

    async def repair(self, items: Sequence[Item]) -> int:
        for workspace, mine in by_workspace(items).items():
            await self.database.run(workspace, _mend, mine)
        return len(items)

    async def _of(self, workspace: UUID) -> AsyncIterator[Sequence[Item]]:
        kept: dict[tuple[UUID, int], Print] = {}
        async for page in self.vectors.kept_ids(workspace):
            for document, version, chunk in page:
                kept[document, version] = _with(kept.get((document, version), (0, 0)), chunk)
        after = UUID(int=0)
        while rows := await self._page(workspace, after):
            yield [item for row in rows if (item := _differs(workspace, row, kept)) is not None]
            after = rows[-1]["document_id"]
        rest = sorted(kept)
        for first in range(0, len(rest), _PAGE):
            rows = await self.database.run(workspace, drift.useless, rest[first : first + _PAGE])
            yield [
                Item(
                    workspace,
                    str(row["document_id"]),
                    f"vectors of version {row['version']} are of no use",
                    row["gone"],
                )
                for row in rows
            ]

    async def _page(self, workspace: UUID, after: UUID) -> list[asyncpg.Record]:
        async def read(tx: Transaction, after: UUID) -> list[asyncpg.Record]:
            return await drift.indexed(tx, after, _PAGE)

        return await self.database.run(workspace, read, after)


def _with(known: Print, chunk: UUID) -> Print:
    return known[0] + 1, known[1] ^ chunk.int


def _differs(workspace: UUID, row: asyncpg.Record, kept: dict[tuple[UUID, int], Print]) -> Item | None:
    """Compares a searchable version, and takes it off what is kept."""
    expected: Print = (0, 0)
    for chunk in row["chunks"]:
        expected = _with(expected, UUID(int=chunk.int))
    if kept.pop((row["document_id"], row["version"]), (0, 0)) == expected or row["busy"]:
        return None
    return Item(workspace, str(row["document_id"]), f"vectors of version {row['version']} are not those of its chunks")


async def _mend(tx: Transaction, items: Sequence[Item]) -> None:
    for item in items:
        document, version = UUID(item.key), int(item.state.split()[3])
        if item.source is None:
            await tx.start_job(EmbedChunks(document_id=document, version=version))
        else:
            below = EVERY_VERSION if item.source else version + 1
            await tx.start_job(ForgetVectors(document_id=document, below_version=below))
