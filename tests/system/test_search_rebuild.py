"""The search index is built anew from ingest's own snapshot, while both services work on one bus."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

import kgl_graph.bootstrap
import kgl_ingest.bootstrap
from kgl_graph.db.search_index import TABLES
from kgl_graph.settings import GraphSettings
from kgl_ingest.settings import IngestSettings
from kgl_servicekit.bus.port import Bus
from kgl_servicekit.bus.postgres import PostgresBus, migrate_bus
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.identity.testing import FakeAuthority
from kgl_servicekit.ids import uuid7
from kgl_servicekit.service import Service
from kgl_servicekit.testing.events import running
from kgl_servicekit.testing.orders import dump
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import PostgresForTests


@dataclass
class System:
    """Ingest and graph at work, and a third process' worth of graph for rebuilds."""

    ingest: Service
    graph: Service
    client: httpx.AsyncClient
    headers: dict[str, str]
    workspace: UUID
    rebuilder: Callable[[], Service]
    environment: dict[str, str]

    async def upload(self, text: str, document: UUID | None = None) -> UUID:
        path = "/ingest/v1/documents" + (f"/{document}/versions" if document else "")
        answer = await self.client.post(path, json={"text": text}, headers=self.headers)
        assert answer.status_code == 202, answer.text
        return UUID(answer.json()["subject"])

    async def delete(self, document: UUID) -> None:
        answer = await self.client.delete(f"/ingest/v1/documents/{document}", headers=self.headers)
        assert answer.status_code == 202, answer.text

    async def search_index(self) -> dict[str, list[dict[str, Any]]]:
        return await self.graph.database.run(self.workspace, lambda tx, _: dump(tx, TABLES, frozenset()), None)

    async def searchable(self) -> set[str]:
        return {row["text"].strip() for row in (await self.search_index())["chunk"]}

    async def last_rebuild(self) -> tuple[str, int]:
        async def read(tx: Transaction, _: None) -> tuple[str, int]:
            row = await tx.fetchrow("select state, received from rebuild")
            assert row is not None
            return row["state"], row["received"]

        return await self.graph.database.run((), read, None)

    async def in_peace(self) -> None:
        """Until no event and no job is left in either service, looked at in the way the work goes."""

        async def left(tx: Transaction, _: None) -> int:
            count: int = await tx.fetchval(
                """select (select count(*) from outbox_pending)
                        + (select count(*) from job where state in ('queued', 'running'))"""
            )
            return count

        async def quiet() -> bool:
            if await self.ingest.database.run((), left, None):
                return False
            ends = await self.graph.bus.end_offsets("kgl.documents")
            if {p: n for p, n in (await self._positions()).items() if n} != {p: n for p, n in ends.items() if n}:
                return False
            return not await self.graph.database.run((), left, None)

        await eventually(quiet, within=60)

    async def _positions(self) -> dict[int, int]:
        async def read(tx: Transaction, _: None) -> dict[int, int]:
            rows = await tx.fetch(
                "select partition, next from consumer_position where subscription = 'graph.documents'"
            )
            return {row["partition"]: row["next"] for row in rows}

        return await self.graph.database.run((), read, None)


@pytest.fixture
async def system(postgres: PostgresForTests, tmp_path: Path) -> AsyncIterator[System]:
    async with AsyncExitStack() as stack:
        roles = {
            name: await stack.enter_async_context(postgres.database(migrations))
            for name, migrations in (
                ("bus", None),
                ("ingest", kgl_ingest.bootstrap.MIGRATIONS),
                ("graph", kgl_graph.bootstrap.MIGRATIONS),
            )
        }
        await migrate_bus(roles["bus"].owner, roles["bus"].service.partition("//")[2].partition("@")[0])
        common: dict[str, Any] = {"env": "test", "bus_url": "postgresql:///none", "object_dir": tmp_path / "objects"}

        def bus(worker: str) -> Bus:
            return PostgresBus(roles["bus"].service, worker=worker, lease=1.0)

        def graph(worker: str) -> Service:
            settings = GraphSettings(database_url=roles["graph"].service, worker_name=worker, **common)
            return kgl_graph.bootstrap.build(settings, bus(f"graph/{worker}"))

        settings = IngestSettings(database_url=roles["ingest"].service, worker_name="w", parser_processes=1, **common)
        authority, workspace = FakeAuthority(), uuid7()
        ingest = replace(kgl_ingest.bootstrap.build(settings, bus("ingest/w")), authority=authority)
        app = ingest.api()
        await stack.enter_async_context(app.router.lifespan_context(app))
        client = await stack.enter_async_context(
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
        )
        live = graph("w")
        await stack.enter_async_context(running(ingest.work, live.work))
        numbers = iter(range(100))
        yield System(
            ingest=ingest,
            graph=live,
            client=client,
            headers=authority.user(workspace),
            workspace=workspace,
            rebuilder=lambda: graph(f"rebuild{next(numbers)}"),
            environment={
                "KGL_ENV": "test",
                "KGL_DATABASE_URL": roles["graph"].service,
                "KGL_BUS_URL": roles["bus"].service,
                "KGL_OBJECT_DIR": str(tmp_path / "objects"),
            },
        )


@pytest.mark.timeout(300)
async def test_a_rebuild_under_traffic_cut_off_and_run_again_agrees_with_the_source(system: System) -> None:
    documents = [await system.upload(f"words of document {n}") for n in range(12)]
    await system.in_peace()
    before = await system.search_index()
    rebuilt = await system.rebuilder().rebuild("search")
    assert (rebuilt.generation, rebuilt.keys) == (1, 12)
    assert await system.search_index() == before

    connection = await asyncpg.connect(system.graph.settings.database_url.get_secret_value())
    await connection.execute(f"set kgl.workspaces = '{system.workspace}'")
    await connection.execute("update chunk set text = 'forged'")
    await connection.execute("delete from chunk_vector")
    await connection.close()

    first = asyncio.create_task(system.rebuilder().rebuild("search"))
    await system.upload("a new document")
    await system.upload("changed words", documents[0])
    await system.delete(documents[1])
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)

    second = asyncio.create_task(system.rebuilder().rebuild("search"))
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
    assert await command(system, "rebuild", "search") == 0
    assert await system.search_index() == after
    assert await system.last_rebuild() == ("done", 12 + 1 + 5 + 1)
    assert await command(system, "rebuild", "everything") == 1


async def command(system: System, *words: str) -> int:
    """`kgl-graph` in a process of its own; the answer is its exit status."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kgl_graph", *words, env={**os.environ, **system.environment}
    )
    return await process.wait()
