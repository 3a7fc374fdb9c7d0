"""The search index is built anew while its vectors are in a store of their own."""

from collections.abc import AsyncIterator

import pytest

from kgl_graph.rebuilds.testing import (
    Source,
    in_peace,
    index,
    indexed_texts,
    ordered,
    rebuild,
    rebuilt_twice_alike,
    stop,
)
from kgl_graph.stores.memory_vectors import MemoryVectors
from kgl_graph.stores.swept_index import SweptIndex
from kgl_graph.testing import GraphKit, graph_kit
from kgl_servicekit.testing.postgres import PostgresForTests


@pytest.fixture
def store() -> MemoryVectors:
    return MemoryVectors()


@pytest.fixture
async def graph(postgres: PostgresForTests, store: MemoryVectors) -> AsyncIterator[GraphKit]:
    async with graph_kit(postgres, store) as kit:
        yield kit


async def settled(graph: GraphKit, store: MemoryVectors) -> None:
    """Each chunk has its vector, and after a sweep there is no other."""
    await SweptIndex(graph.database, store).sweep()
    chunks = {row["id"] for row in await graph.rows("select id from chunk")}
    assert set(store.kept[graph.workspace]) == chunks


async def test_a_rebuild_makes_what_is_there_already_and_a_second_one_changes_nothing(
    graph: GraphKit, source: Source
) -> None:
    await rebuilt_twice_alike(graph, source)


async def test_an_empty_store_and_wrong_rows_are_put_right(
    graph: GraphKit, source: Source, store: MemoryVectors
) -> None:
    before = await index(graph)
    store.kept.clear()  # as when pgvector was chosen before
    await graph.rows("update chunk set text = 'forged' where text = 'boats' returning id")
    task = rebuild(graph, source.bus)
    await ordered(graph, task)
    await source.snapshot()
    await task
    assert await index(graph) == before


async def test_a_rebuild_that_is_given_up_has_taken_nothing_away(graph: GraphKit, source: Source) -> None:
    before = await index(graph)
    task = rebuild(graph, source.bus)
    await ordered(graph, task)
    await source.snapshot(most=3)
    await stop(task)
    assert await index(graph) == before


async def test_what_comes_changes_and_goes_while_it_runs_is_right_afterwards(
    graph: GraphKit, source: Source, store: MemoryVectors
) -> None:
    kept, changed, *_ = list(source.documents)
    task = rebuild(graph, source.bus)
    await ordered(graph, task)
    await source.upload("came before the snapshot")
    await source.upload("changed words", document=changed, version=2)
    short_lived = await source.upload("came and went")
    await source.snapshot(most=2)
    await source.delete(short_lived)
    await source.delete(kept)  # told as living already
    await source.snapshot()
    await source.upload("came after the snapshot")
    await task
    await in_peace(graph, source)
    assert await indexed_texts(graph) == await source.texts()
    await settled(graph, store)
