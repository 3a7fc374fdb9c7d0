"""Vectors in a store of their own that come when their document has long moved on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import pytest

from kgl_graph.db.search_index import Embedded
from kgl_graph.db.tables import DIMENSIONS
from kgl_graph.stores.memory_vectors import MemoryVectors
from kgl_graph.stores.swept_index import SweptIndex
from kgl_graph.testing import GraphKit, chunk_id, deleted, graph_kit
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import PostgresForTests


class HeldVectors(MemoryVectors):
    """A store in which a write can be held, before it has an effect or after it."""

    def __init__(self) -> None:
        super().__init__()
        self.held_before: asyncio.Event | None = None
        self.held_after: asyncio.Event | None = None
        self.reached = asyncio.Event()

    async def put(self, workspace: UUID, document: UUID, version: int, items: Sequence[Embedded]) -> None:
        await self._hold(self.held_before)
        await super().put(workspace, document, version, items)
        await self._hold(self.held_after)

    async def _hold(self, event: asyncio.Event | None) -> None:
        if event is not None:
            self.reached.set()
            await event.wait()

    def versions_of(self, workspace: UUID) -> list[int]:
        return sorted(kept.version for kept in self.kept[workspace].values())


@pytest.fixture
def store() -> HeldVectors:
    return HeldVectors()


@pytest.fixture
async def graph(postgres: PostgresForTests, store: HeldVectors) -> AsyncIterator[GraphKit]:
    async with graph_kit(postgres, store) as kit:
        yield kit


def index_of(graph: GraphKit) -> SweptIndex:
    index: SweptIndex = graph.service.outside.vectors
    return index


def items(document: UUID, version: int) -> list[Embedded]:
    return [Embedded(chunk_id(document, version, 0), [0.5] * DIMENSIONS)]


async def test_a_write_that_is_overtaken_by_the_end_of_its_document_leaves_nothing(
    graph: GraphKit, store: HeldVectors
) -> None:
    document = await graph.index(["old harbour"])
    store.held_before = asyncio.Event()
    late = asyncio.create_task(index_of(graph).upsert(graph.workspace, document, 1, items(document, 1)))
    await store.reached.wait()
    await graph.hear(deleted(document, 1))
    await graph.work()  # deletes what is there, before the write
    assert store.versions_of(graph.workspace) == []
    store.held_before.set()
    await late
    assert store.versions_of(graph.workspace) == []


async def test_a_write_that_is_overtaken_by_a_newer_version_leaves_that_one_alone(
    graph: GraphKit, store: HeldVectors
) -> None:
    document = await graph.index(["old harbour"])
    store.held_before = asyncio.Event()
    late = asyncio.create_task(index_of(graph).upsert(graph.workspace, document, 1, items(document, 1)))
    await store.reached.wait()
    store.held_before, held = None, store.held_before
    await graph.hear(await graph.parsed(document, 2, ["new harbour"]))
    await graph.work()
    held.set()
    await late
    assert store.versions_of(graph.workspace) == [2]


async def die_after_the_write(graph: GraphKit, store: HeldVectors, document: UUID, version: int) -> None:
    """A worker that has written and is gone before it looks again."""
    store.held_after = asyncio.Event()
    store.reached.clear()
    doomed = asyncio.create_task(index_of(graph).upsert(graph.workspace, document, version, items(document, version)))
    await store.reached.wait()
    doomed.cancel()
    await asyncio.gather(doomed, return_exceptions=True)
    store.held_after = None


async def test_the_sweep_finds_what_a_worker_left_that_died_between_write_and_look(
    graph: GraphKit, store: HeldVectors
) -> None:
    replaced, gone, kept = [await graph.index(["old harbour"]) for _ in range(3)]
    store.held_before = None
    for document in (replaced, gone):
        await die_after_the_write(graph, store, document, 1)
    await graph.hear(await graph.parsed(replaced, 2, ["new harbour"]))
    await graph.hear(deleted(gone, 1))
    await graph.work()
    # what the dead workers had sent arrives now, when nobody looks any more
    for document in (replaced, gone):
        await MemoryVectors.put(store, graph.workspace, document, 1, items(document, 1))
    assert store.versions_of(graph.workspace) == [1, 1, 1, 2]
    assert await index_of(graph).sweep() == 2
    found = {(each.document, each.version) for each in store.kept[graph.workspace].values()}
    assert found == {(kept, 1), (replaced, 2)}
    assert await index_of(graph).sweep() == 0


async def test_the_sweep_leaves_what_is_searchable_what_is_to_be_and_what_nobody_knows_yet(
    graph: GraphKit, store: HeldVectors
) -> None:
    document = await graph.index(["old harbour"])
    await graph.hear(await graph.parsed(document, 2, ["never indexed"]))
    await graph.hear(await graph.parsed(document, 3, ["to be indexed"]))
    unknown = uuid7()
    for version in (1, 2, 3, 4):
        await MemoryVectors.put(store, graph.workspace, document, version, items(document, version))
    await MemoryVectors.put(store, graph.workspace, unknown, 1, items(unknown, 1))
    assert await index_of(graph).sweep() == 1
    assert store.versions_of(graph.workspace) == [1, 1, 3, 4]  # 1 can be found until 3 is indexed
    await graph.work()
    assert await index_of(graph).sweep() == 0
    assert store.versions_of(graph.workspace) == [1, 3, 4]


async def test_a_document_that_ends_while_the_sweep_looks_at_it_keeps_nothing(
    graph: GraphKit, store: HeldVectors
) -> None:
    document = await graph.index(["old harbour"])
    looking, may_go_on = asyncio.Event(), asyncio.Event()

    class Slow(HeldVectors):
        async def versions(self, workspace: UUID) -> AsyncIterator[set[tuple[UUID, int]]]:
            async for page in super().versions(workspace):
                looking.set()
                await may_go_on.wait()
                yield page

    slow = Slow()
    slow.kept = store.kept
    sweep = asyncio.create_task(SweptIndex(graph.database, slow).sweep())
    await looking.wait()
    await graph.hear(deleted(document, 1))
    await graph.work()
    may_go_on.set()
    assert await sweep == 1
    assert store.versions_of(graph.workspace) == []


async def test_the_loop_waits_an_outage_out_and_sweeps_again(graph: GraphKit, store: HeldVectors) -> None:
    gone = await graph.index(["old harbour"])
    await graph.hear(deleted(gone, 1))
    await graph.work()
    await MemoryVectors.put(store, graph.workspace, gone, 1, items(gone, 1))
    store.out = True
    asked = 0
    reach = store._reach

    def count() -> None:
        nonlocal asked
        asked += 1
        reach()

    store._reach = count  # type: ignore[method-assign]
    loop = asyncio.create_task(index_of(graph).keep_swept(0.01))

    async def several() -> bool:
        return asked >= 3

    async def swept() -> bool:
        return store.versions_of(graph.workspace) == []

    try:
        await eventually(several)
        store.out = False
        await eventually(swept)
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


async def test_while_the_store_is_out_a_search_is_refused_and_a_job_waits_without_a_failure(
    graph: GraphKit, store: HeldVectors
) -> None:
    store.out = True
    document = await graph.index(["old harbour"])
    answer = await graph.client.get("/graph/v1/search", params={"q": "harbour"}, headers=graph.headers)
    assert (answer.status_code, answer.json()["code"]) == (503, "vectors_unavailable")
    assert "retry-after" in answer.headers
    words = await graph.client.get("/graph/v1/search", params={"q": "harbour", "mode": "text"}, headers=graph.headers)
    assert words.status_code == 200
    (job,) = await graph.rows("select state, failures from job where kind = 'graph.index'")
    assert job == {"state": "queued", "failures": 0}
    store.out = False
    await graph.rows("update job set run_at = now() returning id")
    await graph.work()
    assert store.versions_of(graph.workspace) == [1]
    with pytest.raises(Unavailable):
        store.out = True
        await index_of(graph).delete(graph.workspace, document, 2)
