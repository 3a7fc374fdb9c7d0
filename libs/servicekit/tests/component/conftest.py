"""A service database of the smallest service, and a bus in memory."""

from collections.abc import AsyncIterator

import pytest

from kgl_contracts.topics import AUDIT, DOCUMENTS
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.testing.counter import MIGRATIONS
from kgl_servicekit.testing.postgres import PostgresForTests, Roles


@pytest.fixture
async def roles(postgres: PostgresForTests) -> AsyncIterator[Roles]:
    async with postgres.database(MIGRATIONS) as roles:
        yield roles


@pytest.fixture
async def database(roles: Roles) -> AsyncIterator[Database]:
    database = Database(roles.service, service="counter")
    await database.start()
    yield database
    await database.stop()


@pytest.fixture
async def bus() -> MemoryBus:
    bus = MemoryBus()
    await bus.declare([DOCUMENTS, AUDIT])
    return bus
