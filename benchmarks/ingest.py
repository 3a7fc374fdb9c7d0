"""From upload to searchable: documents per second through ingest and graph, against the libraries alone.

Ours: the real services with their workers, the postgres bus, a directory store, everything durable, composed in one
process as the embedded system does; parsers are child processes. Uploads go through the HTTP application.
The limit: one straight loop with the same libraries: parse, chunk, embed, and insert into the same tables of the same
databases, two durable transactions for each document. Neither side has a module at work; ours still plans the
built-in reader's requests, and keeps its receipts.
"""

import asyncio
import logging
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import httpx
import orjson

import kgl_graph.bootstrap
import kgl_ingest.bootstrap
from benchmarks.harness import Pair, Result, at_least, at_most, in_turn, per_second, percentile
from kgl_cli.demo.corpus import Package, read_corpus
from kgl_graph.settings import GraphSettings
from kgl_graph.stores.embedder import WordLlamaEmbedder
from kgl_ingest.domain.media_types import MediaType
from kgl_ingest.parsing.chunks import chunk_lines
from kgl_ingest.parsing.formats import parse
from kgl_ingest.settings import IngestSettings
from kgl_servicekit.bus.postgres import PostgresBus, migrate_bus
from kgl_servicekit.database.connection import Connection
from kgl_servicekit.identity.testing import FakeAuthority
from kgl_servicekit.ids import uuid7
from kgl_servicekit.service import Service
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import PostgresForTests, Roles, temporary_postgres

S = TypeVar("S", IngestSettings, GraphSettings)

DOCUMENTS = 100
GOAL = 0.7
_UPLOADS = 8  # at a time
_POLL = 0.02

_DOCUMENT = """insert into document (workspace_id, id, state, version, created_by, created_at, updated_at)
               values ($1, $2, 'live', 1, 'benchmark', $3, $3)"""
_VERSION = """insert into document_version (workspace_id, document_id, version, state, media_type, size, sha256,
                                            object_key, chunk_count, text_length, operation_id, created_at)
              values ($1, $2, 1, 'parsed', $3, $4, '', '', $5, $6, $2, $7)"""
_INDEXED = "insert into indexed_document (workspace_id, document_id, version) values ($1, $2, 1)"
_CHUNKS = """insert into chunk (workspace_id, id, document_id, version, ordinal, start, "end", title, text)
             select $1, id, $2, 1, ordinal, start, stop, title, text
             from unnest($3::uuid[], $4::int[], $5::int[], $6::int[], $7::text[], $8::text[])
               as i(id, ordinal, start, stop, title, text)"""
_VECTORS = """insert into chunk_vector (workspace_id, chunk_id, document_id, version, embedding)
              select $1, id, $2, 1, embedding::vector from unnest($3::uuid[], $4::text[]) as i(id, embedding)"""
_SEARCHABLE = "select count(*) from indexed_document where workspace_id = $1 and version = 1"


@dataclass(frozen=True, slots=True)
class System:
    """Both services at work, and connections of the limit to their databases."""

    client: httpx.AsyncClient
    authority: FakeAuthority
    ingest: Connection
    graph: Connection
    embedder: WordLlamaEmbedder
    corpus: Sequence[Package]

    async def through_the_services(self) -> float:
        """Documents per second from the first upload until the last one is searchable, in a new workspace."""
        workspace = uuid7()
        headers = self.authority.user(workspace)
        return await per_second(len(self.corpus), lambda: self._upload_all(workspace, headers, self.corpus))

    async def one_document(self) -> float:
        """Seconds from the upload of one document, with nothing else to do, until it is searchable."""
        workspace = uuid7()
        begun = time.perf_counter()
        await self._upload_all(workspace, self.authority.user(workspace), self.corpus[:1])
        return time.perf_counter() - begun

    async def with_the_libraries(self) -> float:
        """Documents per second of the straight loop, in a new workspace."""
        workspace = uuid7()

        async def loop() -> None:
            for package in self.corpus:
                await self._insert(workspace, package)

        return await per_second(len(self.corpus), loop)

    async def _upload_all(self, workspace: UUID, headers: dict[str, str], corpus: Sequence[Package]) -> None:
        slots = asyncio.Semaphore(_UPLOADS)

        async def upload(package: Package) -> None:
            file = (package.file_name, package.readme.encode(), package.media_type)
            async with slots:
                answer = await self.client.post("/ingest/v1/documents", files={"file": file}, headers=headers)
            if answer.status_code != 202:
                raise RuntimeError(f"{package.name}: {answer.status_code} {answer.text}")

        await asyncio.gather(*(upload(package) for package in corpus))

        async def searchable() -> bool:
            return bool(await self.graph.fetchval(_SEARCHABLE, workspace) == len(corpus))

        await eventually(searchable, within=120, every=_POLL)

    async def _insert(self, workspace: UUID, package: Package) -> None:
        document, now, content = uuid7(), datetime.now(UTC), package.readme.encode()
        parsed = parse(content, MediaType(package.media_type), None)
        lines = [orjson.loads(line) for line in chunk_lines(document, 1, parsed)]
        vectors = await self.embedder.embed([f"{line['title']}\n{line['text']}" for line in lines])
        texts = ["[" + ",".join(format(value, ".7g") for value in vector) + "]" for vector in vectors]
        ids = [line["id"] for line in lines]
        async with self.ingest.transaction():
            await self.ingest.execute(_DOCUMENT, workspace, document, now)
            await self.ingest.execute(
                _VERSION, workspace, document, package.media_type, len(content), len(lines), len(parsed.text), now
            )
        async with self.graph.transaction():
            await self.graph.execute(_INDEXED, workspace, document)
            columns = [[line[name] for line in lines] for name in ("ordinal", "start", "end", "title", "text")]
            await self.graph.execute(_CHUNKS, workspace, document, ids, *columns)
            await self.graph.execute(_VECTORS, workspace, document, ids, texts)


async def measure() -> list[Result]:
    """Documents per second, and the time of a single document."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # the client's lines are no part of the services
    with temporary_postgres() as url, tempfile.TemporaryDirectory() as folder:
        async with _system(PostgresForTests(url), Path(folder)) as system:
            await system.through_the_services()  # parsers start, models are loaded
            await system.with_the_libraries()
            pair: Pair = await in_turn(system.through_the_services, system.with_the_libraries)
            alone = [await system.one_document() for _ in range(20)]
    return [
        at_least(f"upload to searchable, {DOCUMENTS} documents", "documents/s", pair, GOAL),
        at_most("upload to searchable, one document alone, median", "s", percentile(alone, 0.5), 1.0),
    ]


@asynccontextmanager
async def _system(postgres: PostgresForTests, folder: Path) -> AsyncIterator[System]:
    async with AsyncExitStack() as stack:
        ingest_roles = await stack.enter_async_context(postgres.database(kgl_ingest.bootstrap.MIGRATIONS))
        graph_roles = await stack.enter_async_context(postgres.database(kgl_graph.bootstrap.MIGRATIONS))
        bus_roles = await stack.enter_async_context(postgres.database())
        await migrate_bus(bus_roles.owner, urlsplit(bus_roles.service).username or "")
        bus, authority = PostgresBus(bus_roles.service, worker="benchmark"), FakeAuthority()
        ingest = kgl_ingest.bootstrap.build(_settings(IngestSettings, ingest_roles, bus_roles, folder), bus)
        graph = kgl_graph.bootstrap.build(_settings(GraphSettings, graph_roles, bus_roles, folder), bus)
        app = replace(ingest, authority=authority).api()
        await stack.enter_async_context(app.router.lifespan_context(app))
        await stack.enter_async_context(_working([ingest, graph], bus))
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://benchmark", timeout=60)
        own, other = await asyncpg.connect(ingest_roles.superuser), await asyncpg.connect(graph_roles.superuser)
        for connection in (own, other):
            stack.push_async_callback(connection.close)
        corpus = [package for package in read_corpus() if package.readme][:DOCUMENTS]
        yield System(await stack.enter_async_context(client), authority, own, other, WordLlamaEmbedder(), corpus)


def _settings(kind: type[S], own: Roles, bus: Roles, folder: Path) -> S:
    return kind(
        env="test",
        database_url=own.service,
        bus_url=bus.service,
        object_dir=folder / "objects",
        worker_name="benchmark",
        rate_limit_per_minute=1_000_000,
    )


@asynccontextmanager
async def _working(services: Sequence[Service], bus: PostgresBus) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(work) for work in (*(service.work() for service in services), bus.maintain())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
