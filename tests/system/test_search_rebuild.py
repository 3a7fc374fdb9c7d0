"""The search index is built anew from ingest's own snapshot, while both services work on one bus."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

import kgl_graph.bootstrap
import kgl_ingest.bootstrap
from kgl_graph.db.search_index import TABLES
from kgl_graph.settings import GraphSettings
from kgl_ingest.settings import IngestSettings
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.testing.orders import dump
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import PostgresForTests
from tests.system.pair import Pair, Side, pair


@dataclass
class System:
    """Ingest and graph at work."""

    pair: Pair

    async def upload(self, text: str, document: UUID | None = None) -> UUID:
        path = "/ingest/v1/documents" + (f"/{document}/versions" if document else "")
        answer = await self.pair.client.post(path, json={"text": text}, headers=self.pair.headers)
        assert answer.status_code == 202, answer.text
        return UUID(answer.json()["subject"])

    async def delete(self, document: UUID) -> None:
        answer = await self.pair.client.delete(f"/ingest/v1/documents/{document}", headers=self.pair.headers)
        assert answer.status_code == 202, answer.text

    async def search_index(self) -> dict[str, list[dict[str, Any]]]:
        return await self.pair.derived.database.run(
            self.pair.workspace, lambda tx, _: dump(tx, TABLES, frozenset()), None
        )

    async def searchable(self) -> set[str]:
        return {row["text"].strip() for row in (await self.search_index())["chunk"]}

    async def last_rebuild(self) -> tuple[str, int]:
        async def read(tx: Transaction, _: None) -> tuple[str, int]:
            row = await tx.fetchrow("select state, received from rebuild")
            assert row is not None
            return row["state"], row["received"]

        return await self.pair.derived.database.run((), read, None)

    async def in_peace(self) -> None:
        """Until no event and no job is left in either service, looked at in the way the work goes."""

        async def left(tx: Transaction, _: None) -> int:
            count: int = await tx.fetchval(
                """select (select count(*) from outbox_pending)
                        + (select count(*) from job where state in ('queued', 'running'))"""
            )
            return count

        async def quiet() -> bool:
            if await self.pair.source.database.run((), left, None):
                return False
            ends = await self.pair.derived.bus.end_offsets("kgl.documents")
            if {p: n for p, n in (await self._positions()).items() if n} != {p: n for p, n in ends.items() if n}:
                return False
            return not await self.pair.derived.database.run((), left, None)

        await eventually(quiet, within=60)

    async def _positions(self) -> dict[int, int]:
        async def read(tx: Transaction, _: None) -> dict[int, int]:
            rows = await tx.fetch(
                "select partition, next from consumer_position where subscription = 'graph.documents'"
            )
            return {row["partition"]: row["next"] for row in rows}

        return await self.pair.derived.database.run((), read, None)


@pytest.fixture
async def system(postgres: PostgresForTests, tmp_path: Path) -> AsyncIterator[System]:
    source = Side(kgl_ingest.bootstrap, partial(IngestSettings, parser_processes=1))
    async with pair(postgres, tmp_path, source, Side(kgl_graph.bootstrap, GraphSettings)) as made:
        yield System(made)


@pytest.mark.timeout(300)
async def test_a_rebuild_under_traffic_cut_off_and_run_again_agrees_with_the_source(system: System) -> None:
    documents = [await system.upload(f"words of document {n}") for n in range(12)]
    await system.in_peace()
    before = await system.search_index()
    rebuilt = await system.pair.another().rebuild("search")
    assert (rebuilt.generation, rebuilt.keys) == (1, 12)
    assert await system.search_index() == before

    connection = await asyncpg.connect(system.pair.derived.settings.database_url.get_secret_value())
    await connection.execute(f"set kgl.workspaces = '{system.pair.workspace}'")
    await connection.execute("update chunk set text = 'forged'")
    await connection.execute("delete from chunk_vector")
    await connection.close()

    first = asyncio.create_task(system.pair.another().rebuild("search"))
    await system.upload("a new document")
    await system.upload("changed words", documents[0])
    await system.delete(documents[1])
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)

    second = asyncio.create_task(system.pair.another().rebuild("search"))
    for number in range(5):
        await system.upload(f"under way {number}")
        await system.delete(documents[2 + number])
    await second
    await system.upload("after the swap")
    await system.in_peace()
    expected = {f"words of document {n}" for n in range(7, 12)} | {f"under way {n}" for n in range(5)}
    assert await system.searchable() == expected | {"a new document", "changed words", "after the swap"}
    after = await system.search_index()
    assert {row["chunk_id"] for row in after["chunk_vector"]} == {row["id"] for row in after["chunk"]}
    assert await system.pair.command("rebuild", "search") == 0
    assert await system.search_index() == after
    assert await system.last_rebuild() == ("done", 12 + 1 + 5 + 1)
    assert await system.pair.command("rebuild", "everything") == 1
