from collections.abc import AsyncIterator

import pytest

from kgl_contracts.topics import DOCUMENTS, REPLAY_GRAPH_DOCUMENTS
from kgl_graph.rebuilds.testing import Source, in_peace, working
from kgl_graph.testing import GraphKit, graph_kit
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.testing.postgres import PostgresForTests


@pytest.fixture
async def graph(postgres: PostgresForTests) -> AsyncIterator[GraphKit]:
    async with graph_kit(postgres) as kit:
        yield kit


@pytest.fixture
async def bus() -> MemoryBus:
    bus = MemoryBus()
    await bus.declare([DOCUMENTS, REPLAY_GRAPH_DOCUMENTS])
    return bus


@pytest.fixture
async def source(graph: GraphKit, bus: MemoryBus) -> AsyncIterator[Source]:
    """Three documents that are searchable, one that is gone, one whose second version is searchable."""
    source = Source(graph, bus)
    async with working(graph, bus):
        await source.upload("the harbour at night", "boats")
        await source.upload("bread and salt")
        again = await source.upload("first words")
        await source.delete(await source.upload("gone words"))
        await source.upload("second words", document=again, version=2)
        await in_peace(graph, source)
        yield source
