"""What every index of vectors promises, shown on each of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from uuid import UUID

import numpy as np
import pytest

from kgl_graph.db.search_index import Embedded
from kgl_graph.db.tables import DIMENSIONS
from kgl_graph.stores.memory_vectors import MemoryVectors
from kgl_graph.stores.swept_index import SweptIndex
from kgl_graph.stores.testing import REAL_STORES, real_store
from kgl_graph.stores.vectors import PgVectorIndex, VectorIndex
from kgl_graph.stores.weaviate_connection import Address
from kgl_graph.stores.weaviate_vectors import WeaviateVectors
from kgl_graph.testing import GraphKit, accepted, chunk_id, deleted, graph_kit
from kgl_servicekit.database.engine import Database
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.postgres import PostgresForTests


@pytest.fixture(params=["pgvector", "memory", *REAL_STORES])
async def graph(request: pytest.FixtureRequest, postgres: PostgresForTests) -> AsyncIterator[GraphKit]:
    async with AsyncExitStack() as stack:
        store = None
        if request.param == "memory":
            store = MemoryVectors()
        elif request.param != "pgvector":
            store = await stack.enter_async_context(real_store())
        yield await stack.enter_async_context(graph_kit(postgres, store))


@pytest.fixture
def index(graph: GraphKit) -> VectorIndex:
    found: VectorIndex = graph.service.outside.vectors
    return found


def towards(*at: int) -> list[float]:
    """A vector that points where these axes do."""
    return [float(axis in at) for axis in range(DIMENSIONS)]


def item(document: UUID, version: int, ordinal: int, vector: list[float]) -> Embedded:
    return Embedded(chunk_id(document, version, ordinal), vector)


async def told(graph: GraphKit, version: int = 1, document: UUID | None = None) -> UUID:
    """A document of which graph has heard, but whose chunks nobody has indexed."""
    document = document or uuid7()
    await graph.hear(accepted(document, version))
    await graph.hear(await graph.parsed(document, version, []))
    return document


async def test_the_nearest_by_cosine_come_first_whatever_their_length(graph: GraphKit, index: VectorIndex) -> None:
    document = await told(graph)
    vectors = [
        towards(9),
        [value * 50 for value in towards(0, 1, 2)],
        towards(0, 1),
        [value / 9 for value in towards(0)],
    ]
    await index.upsert(graph.workspace, document, 1, [item(document, 1, n, vector) for n, vector in enumerate(vectors)])
    found = await index.search(graph.workspace, towards(0), 3)
    assert found == [chunk_id(document, 1, n) for n in (3, 2, 1)]


async def test_storing_a_chunk_again_replaces_its_vector(graph: GraphKit, index: VectorIndex) -> None:
    document = await told(graph)
    await index.upsert(graph.workspace, document, 1, [item(document, 1, n, towards(n)) for n in (0, 1)])
    await index.upsert(graph.workspace, document, 1, [item(document, 1, n, towards(1 - n)) for n in (0, 1)])
    found = await index.search(graph.workspace, towards(0), 10)
    assert found == [chunk_id(document, 1, n) for n in (1, 0)]


async def test_all_that_is_kept_can_be_listed_with_whose_it_is(graph: GraphKit, index: VectorIndex) -> None:
    document, other = await told(graph), await told(graph, version=2)
    await index.upsert(graph.workspace, document, 1, [item(document, 1, n, towards(n)) for n in (0, 1)])
    await index.upsert(graph.workspace, other, 2, [item(other, 2, 0, towards(2))])
    kept = {each async for page in index.kept_ids(graph.workspace) for each in page}
    places = ((document, 1, 0), (document, 1, 1), (other, 2, 0))
    assert kept == {(*place[:2], chunk_id(*place)) for place in places}
    assert [page async for page in index.kept_ids(uuid7()) if page] == []


async def test_a_workspace_finds_its_own_alone_and_one_without_vectors_nothing(
    graph: GraphKit, index: VectorIndex
) -> None:
    document, other = await told(graph), uuid7()
    await index.upsert(graph.workspace, document, 1, [item(document, 1, 0, towards(0))])
    assert await index.search(other, towards(0), 10) == []
    await index.delete(other, document, 9)
    assert await index.search(graph.workspace, towards(0), 10) == [chunk_id(document, 1, 0)]


async def test_no_vectors_are_nothing_to_store(graph: GraphKit, index: VectorIndex) -> None:
    await index.upsert(graph.workspace, await told(graph), 1, [])
    assert await index.search(graph.workspace, towards(0), 10) == []


async def test_versions_below_one_are_forgotten_and_other_documents_kept(graph: GraphKit, index: VectorIndex) -> None:
    document, other = await told(graph), await told(graph)
    await index.upsert(graph.workspace, document, 1, [item(document, 1, 0, towards(0))])
    await index.upsert(graph.workspace, other, 1, [item(other, 1, 0, towards(0, 1, 2))])
    await told(graph, 2, document)
    await index.upsert(graph.workspace, document, 2, [item(document, 2, 0, towards(0, 1))])
    for _ in range(2):  # the second time there is nothing left to forget
        await index.delete(graph.workspace, document, 2)
        found = await index.search(graph.workspace, towards(0), 10)
        assert found == [chunk_id(document, 2, 0), chunk_id(other, 1, 0)]


async def test_a_thousand_vectors_are_stored_replaced_found_and_forgotten(graph: GraphKit, index: VectorIndex) -> None:
    document = await told(graph)
    vectors = np.random.default_rng(7).normal(size=(1000, DIMENSIONS))
    items = [item(document, 1, n, vector) for n, vector in enumerate(vectors.tolist())]
    for _ in range(2):
        await index.upsert(graph.workspace, document, 1, items)
    for n in range(0, 1000, 100):
        found = await index.search(graph.workspace, items[n].vector, 10)
        assert (found[0], len(set(found))) == (items[n].chunk_id, 10)
    assert len(await index.search(graph.workspace, items[0].vector, 2000)) == 1000
    await index.delete(graph.workspace, document, 2)
    assert await index.search(graph.workspace, items[0].vector, 10) == []


async def test_writers_of_one_document_at_the_same_time_leave_its_vectors(graph: GraphKit, index: VectorIndex) -> None:
    document = await told(graph)
    items = [item(document, 1, n, towards(n)) for n in range(20)]
    await asyncio.gather(*(index.upsert(graph.workspace, document, 1, items) for _ in range(4)))
    assert len(await index.search(graph.workspace, towards(0), 100)) == 20


async def test_late_vectors_of_a_document_that_is_gone_are_not_kept(graph: GraphKit, index: VectorIndex) -> None:
    document = await graph.index(["old harbour"])
    await graph.hear(deleted(document, 1))
    await graph.work()
    await index.upsert(graph.workspace, document, 1, [item(document, 1, 0, towards(0))])
    assert await index.search(graph.workspace, towards(0), 10) == []


async def test_late_vectors_of_a_version_that_was_replaced_are_not_kept(graph: GraphKit, index: VectorIndex) -> None:
    document = await graph.index(["old harbour"])
    await graph.hear(await graph.parsed(document, 2, ["new harbour"]))
    await graph.work()
    await index.upsert(graph.workspace, document, 1, [item(document, 1, 0, towards(0))])
    assert await index.search(graph.workspace, towards(0), 10) == [chunk_id(document, 2, 0)]


async def test_late_vectors_of_a_version_change_nothing_while_its_successor_is_not_indexed(
    graph: GraphKit, index: VectorIndex
) -> None:
    document = await graph.index(["old harbour"])
    await graph.hear(await graph.parsed(document, 2, ["new harbour"]))
    (vector,) = await graph.service.outside.embedder.embed(["Title\nold harbour"])
    await index.upsert(graph.workspace, document, 1, [item(document, 1, 0, vector)])
    assert await index.search(graph.workspace, vector, 10) == [chunk_id(document, 1, 0)]
    hits = await graph.client.get("/graph/v1/search", params={"q": "old", "mode": "vector"}, headers=graph.headers)
    assert [hit["version"] for hit in hits.json()["hits"]] == [1]


NOWHERE = "127.0.0.1:1"


async def pgvector_out(stack: AsyncExitStack, graph: GraphKit) -> VectorIndex:
    return PgVectorIndex(Database(f"postgresql://{NOWHERE}/none", service="graph"), exact_below=1)


async def memory_out(stack: AsyncExitStack, graph: GraphKit) -> VectorIndex:
    store = MemoryVectors()
    store.out = True
    return SweptIndex(graph.database, store)


async def weaviate_out(stack: AsyncExitStack, graph: GraphKit) -> VectorIndex:
    store = WeaviateVectors(Address(url=f"http://{NOWHERE}", grpc=NOWHERE.replace("1:1", "1:2")), "KglChunk")
    await stack.enter_async_context(store.opened())
    with pytest.raises(Unavailable):
        await store.ping()
    return SweptIndex(graph.database, store)


@pytest.mark.parametrize("unreachable", [pgvector_out, memory_out, weaviate_out])
async def test_an_outage_is_told_as_unavailable(
    postgres: PostgresForTests, unreachable: Callable[[AsyncExitStack, GraphKit], Awaitable[VectorIndex]]
) -> None:
    async with AsyncExitStack() as stack:
        graph = await stack.enter_async_context(graph_kit(postgres, MemoryVectors()))
        index = await unreachable(stack, graph)
        document = await told(graph)
        with pytest.raises(Unavailable):
            await index.upsert(graph.workspace, document, 1, [item(document, 1, 0, towards(0))])
        with pytest.raises(Unavailable):
            await index.search(graph.workspace, towards(0), 1)
        with pytest.raises(Unavailable):
            await index.delete(graph.workspace, document, 2)
