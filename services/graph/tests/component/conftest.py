from collections.abc import AsyncIterator

import pytest

from kgl_graph.testing import GraphKit, graph_kit
from kgl_servicekit.testing.postgres import PostgresForTests


@pytest.fixture
async def graph(postgres: PostgresForTests) -> AsyncIterator[GraphKit]:
    async with graph_kit(postgres) as kit:
        yield kit
