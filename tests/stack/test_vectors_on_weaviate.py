"""Vectors on a real Weaviate: tenants, starts, keys, an outage, and how much of the truth its index finds."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit
from uuid import UUID

import numpy as np
import pytest

from kgl_graph.bootstrap import build
from kgl_graph.db.search_index import Embedded
from kgl_graph.db.tables import DIMENSIONS
from kgl_graph.settings import GraphSettings
from kgl_graph.stores.testing import drop, real_store, weaviate_settings
from kgl_graph.stores.vector_store import VectorsRefused, VectorStore, VectorsUnavailable
from kgl_graph.stores.weaviate_connection import Address
from kgl_graph.stores.weaviate_vectors import WeaviateVectors
from kgl_graph.testing import deleted, graph_kit
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.ids import derived_id, uuid7
from kgl_servicekit.settings import NotConfigured
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import PostgresForTests
from kgl_servicekit.testing.servers import real_servers

pytestmark = pytest.mark.skipif(real_servers().weaviate is None, reason="KGL_TEST_SERVERS names no weaviate")
RANDOM = np.random.default_rng(11)


@pytest.fixture
async def store() -> AsyncIterator[VectorStore]:
    async with real_store() as found:
        yield found


def address(**changes: str) -> Address:
    settings = weaviate_settings()
    found = Address(url=settings["weaviate_url"], grpc=settings["weaviate_grpc"], api_key=settings["weaviate_api_key"])
    return replace(found, **changes)


def items(of: str, vectors: np.ndarray) -> list[Embedded]:
    return [Embedded(derived_id(of, n), vector) for n, vector in enumerate(vectors.tolist())]


async def test_two_tenants_never_see_each_other(store: VectorStore) -> None:
    workspaces = [uuid7(), uuid7()]
    own: dict[UUID, set[UUID]] = {}
    vectors = RANDOM.normal(size=(400, DIMENSIONS))
    for workspace in workspaces:  # the same vectors and chunks of the same numbers, so that only the tenant differs
        kept = items(str(workspace), vectors)
        own[workspace] = {item.chunk_id for item in kept}
        await store.put(workspace, uuid7(), 1, kept)
    assert set(await store.workspaces()) == set(workspaces)

    async def ask(workspace: UUID) -> None:
        for vector in RANDOM.normal(size=(125, DIMENSIONS)).tolist():
            found = await store.search(workspace, vector, random.randint(1, 50))
            assert found
            assert set(found) <= own[workspace]

    await asyncio.gather(*(ask(workspace) for workspace in workspaces * 4))


async def test_ten_thousand_vectors_are_found_exactly_enough(store: VectorStore) -> None:
    workspace, count, most = uuid7(), 10_000, 10
    # as embeddings lie: in clusters, which is harder for an index than noise
    centres = RANDOM.normal(size=(100, DIMENSIONS))
    vectors = centres[RANDOM.integers(0, 100, count)] + 0.5 * RANDOM.normal(size=(count, DIMENSIONS))
    kept = items("chunk", vectors)
    for first in range(0, count, 1000):
        await store.put(workspace, derived_id("document", first), 1, kept[first : first + 1000])
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    hits = 0
    for query in centres[RANDOM.integers(0, 100, 200)] + 0.5 * RANDOM.normal(size=(200, DIMENSIONS)):
        exact = {kept[n].chunk_id for n in np.argsort(-(units @ query))[:most]}
        hits += len(exact & set(await store.search(workspace, query.tolist(), most)))
    assert hits / (200 * most) >= 0.95
    pages = [page async for page in store.versions(workspace)]
    assert set().union(*pages) == {(derived_id("document", first), 1) for first in range(0, count, 1000)}


async def test_more_vectors_of_one_document_are_deleted_than_a_server_deletes_at_once(store: VectorStore) -> None:
    workspace, document = uuid7(), uuid7()
    kept = items("chunk", RANDOM.normal(size=(11_000, DIMENSIONS)))
    await store.put(workspace, document, 1, kept)
    await store.put(workspace, document, 2, items("next", RANDOM.normal(size=(3, DIMENSIONS))))
    await store.delete(workspace, document, below=2)
    assert [page async for page in store.versions(workspace)] == [{(document, 2)}]
    await store.delete(workspace, document, least=2, below=3)
    assert [page async for page in store.versions(workspace)] == []
    assert await store.search(workspace, [1.0] * DIMENSIONS, 5) == []


async def test_reading_and_deleting_make_no_tenant(store: VectorStore) -> None:
    workspace = uuid7()
    assert await store.search(workspace, [1.0] * DIMENSIONS, 5) == []
    await store.delete(workspace, uuid7(), below=9)
    assert [page async for page in store.versions(workspace)] == []
    assert await store.workspaces() == []


async def test_a_vector_of_another_length_is_refused_with_how_many_were(store: VectorStore) -> None:
    workspace, document = uuid7(), uuid7()
    await store.put(workspace, document, 1, items("right", RANDOM.normal(size=(2, DIMENSIONS))))
    with pytest.raises(VectorsRefused, match="3 of 3"):
        await store.put(workspace, document, 1, items("wrong", RANDOM.normal(size=(3, 7))))
    mixed = items("mixed", RANDOM.normal(size=(3, DIMENSIONS)))
    with pytest.raises(VectorsRefused, match="1 of 3"):
        await store.put(workspace, document, 1, [*mixed[:2], Embedded(mixed[2].chunk_id, [1.0, 2.0])])


async def test_processes_that_start_together_make_one_collection() -> None:
    settings = weaviate_settings()
    stores = [WeaviateVectors(address(), settings["weaviate_collection"]) for _ in range(8)]
    async with AsyncExitStack() as stack:
        stack.push_async_callback(drop, address(), settings["weaviate_collection"])
        await asyncio.gather(*(stack.enter_async_context(store.opened()) for store in stores))
        workspace = uuid7()
        await asyncio.gather(
            *(store.put(workspace, uuid7(), 1, items(str(n), np.eye(DIMENSIONS)[:3])) for n, store in enumerate(stores))
        )
        assert len(await stores[0].search(workspace, [1.0] * DIMENSIONS, 100)) == 24
        await asyncio.gather(*(store.ping() for store in stores))


async def test_a_collection_without_tenants_is_refused_by_name() -> None:
    name = weaviate_settings()["weaviate_collection"]
    async with address().client() as client:
        await client.collections.create(name)
    try:
        with pytest.raises(NotConfigured, match="KGL_WEAVIATE_COLLECTION"):
            async with WeaviateVectors(address(), name).opened():
                raise AssertionError
    finally:
        await drop(address(), name)


@pytest.mark.parametrize("key", ["wrong", None])
async def test_a_wrong_key_ends_the_start_and_names_the_setting(key: str | None) -> None:
    settings = {**weaviate_settings(), "weaviate_api_key": key}
    service = build(
        GraphSettings(env="test", database_url="postgresql:///none", object_dir="/tmp", **settings), MemoryBus()
    )
    *_, opened = service.resources
    with pytest.raises(NotConfigured, match="KGL_WEAVIATE_API_KEY"):
        async with opened():
            raise AssertionError


class Wire:
    """A way to the server that can be cut, and can go silent."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._connections: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.silent = False
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]

    async def open(self) -> None:
        self.silent = False
        if self._server is None:
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)

    async def lose(self, *, silently: bool) -> None:
        """Refuse connections from now on, or take them and say nothing."""
        self.silent = silently
        if not silently:
            await self.cut()

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._connections):
            writer.transport.abort()
        self._server = None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            self._connections.add(far_writer)
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        except OSError:
            pass
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if not self.silent:
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def wired(collection: str) -> AsyncIterator[tuple[WeaviateVectors, list[Wire]]]:
    url = urlsplit(address().url)
    wires = [Wire(f"{url.hostname}:{url.port}"), Wire(address().grpc)]
    here = address(url=f"http://127.0.0.1:{wires[0].port}", grpc=f"127.0.0.1:{wires[1].port}")
    try:
        yield WeaviateVectors(here, collection), wires
    finally:
        for wire in wires:
            await wire.cut()


async def timed(store: WeaviateVectors) -> float | None:
    """How long a ping took; None when it failed, which may take no longer."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        await store.ping()
    except VectorsUnavailable:
        assert loop.time() - started < 2
        return None
    return loop.time() - started


@pytest.mark.parametrize("silently", [False, True], ids=["cut", "silent"])
async def test_a_lost_server_is_unavailable_and_comes_back_without_a_restart(silently: bool) -> None:
    name, workspace = weaviate_settings()["weaviate_collection"], uuid7()
    # nothing answers at the start: the service starts, and is unready
    async with wired(name) as (store, wires), store.opened():
        assert await timed(store) is None
        for wire in wires:
            await wire.open()

        async def back() -> bool:
            return await timed(store) is not None

        try:
            await eventually(back, within=5)
            await store.put(workspace, uuid7(), 1, items("chunk", np.eye(DIMENSIONS)[:3]))
            for _ in range(2):
                for wire in wires:
                    await wire.lose(silently=silently)
                assert await timed(store) is None
                with pytest.raises(VectorsUnavailable):
                    await store.search(workspace, [1.0] * DIMENSIONS, 3)
                for wire in wires:
                    await wire.open()
                await eventually(back, within=5)
                assert len(await store.search(workspace, [1.0] * DIMENSIONS, 3)) == 3
        finally:
            await drop(address(), name)


async def test_graph_on_a_postgres_without_pgvector_indexes_searches_and_sweeps(
    postgres: PostgresForTests, store: VectorStore
) -> None:
    async with graph_kit(postgres, store) as graph:
        document = await graph.index(["the harbour at night", "bread and salt"])
        for mode in ("vector", "hybrid"):
            params = {"q": "harbours at night", "mode": mode}
            answer = await graph.client.get("/graph/v1/search", params=params, headers=graph.headers)
            assert answer.json()["hits"][0]["snippet"] == "the harbour at night"
        await graph.hear(deleted(document, 1))
        await graph.work()
        await store.put(graph.workspace, document, 1, items("late", RANDOM.normal(size=(2, DIMENSIONS))))
        assert await graph.service.outside.vectors.sweep() == 1
        assert [page async for page in store.versions(graph.workspace)] == []
