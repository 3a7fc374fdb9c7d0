"""Vectors that a worker stores when the document has long moved on."""

import asyncio
from uuid import UUID

from kgl_graph.db.search_index import Embedded
from kgl_graph.db.tables import DIMENSIONS
from kgl_graph.testing import GraphKit, chunk_id, deleted
from kgl_graph.use_cases.hear_document import hear_deleted
from kgl_servicekit.testing.races import held_open, until_waiting


async def store_late(graph: GraphKit, document: UUID, version: int) -> None:
    """What a worker does that was stopped between its look at the document and its write."""
    items = [Embedded(chunk_id(document, version, 0), [0.5] * DIMENSIONS)]
    await graph.service.outside.vectors.upsert(graph.workspace, document, version, items)


async def versions(graph: GraphKit) -> list[int]:
    return [row["version"] for row in await graph.rows("select version from chunk_vector order by version")]


async def test_late_vectors_of_a_version_that_was_replaced_are_not_kept(graph: GraphKit) -> None:
    document = await graph.index(["old harbour"])
    await graph.hear(await graph.parsed(document, 2, ["new harbour"]))
    await graph.work()
    await store_late(graph, document, 1)
    assert await versions(graph) == [2]


async def test_late_vectors_of_a_version_change_nothing_while_its_successor_is_not_indexed(graph: GraphKit) -> None:
    document = await graph.index(["old harbour"])
    before = await graph.rows("select embedding::text from chunk_vector")
    await graph.hear(await graph.parsed(document, 2, ["new harbour"]))
    await store_late(graph, document, 1)
    assert await graph.rows("select embedding::text from chunk_vector") == before


async def test_late_vectors_of_a_document_that_is_gone_are_not_kept(graph: GraphKit) -> None:
    document = await graph.index(["old harbour"])
    await graph.hear(deleted(document, 1))
    await graph.work()
    await store_late(graph, document, 1)
    assert await versions(graph) == []


async def test_vectors_that_meet_a_deletion_on_its_way_are_not_kept(graph: GraphKit) -> None:
    document = await graph.index(["old harbour"])
    await graph.service.outside.vectors.delete(graph.workspace, document, 2)
    async with held_open(graph.database, graph.workspace, hear_deleted, deleted(document, 1)) as deletion:
        late = asyncio.create_task(store_late(graph, document, 1))
        await until_waiting(graph.database)
    await asyncio.gather(deletion, late)
    assert await versions(graph) == []


async def test_a_version_that_is_current_can_be_stored_again(graph: GraphKit) -> None:
    document = await graph.index(["old harbour"])
    await store_late(graph, document, 1)
    assert await versions(graph) == [1]
