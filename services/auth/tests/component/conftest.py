"""The auth service on a database that most tests share; what they make is their own."""

from collections.abc import AsyncIterator

import pytest

from kgl_auth.bootstrap import MIGRATIONS
from kgl_auth.testing import AuthKit, auth_for_tests
from kgl_servicekit.testing.postgres import PostgresForTests, Roles


@pytest.fixture(scope="session")
async def roles(postgres: PostgresForTests) -> AsyncIterator[Roles]:
    async with postgres.database(MIGRATIONS) as roles:
        yield roles


@pytest.fixture(scope="session")
async def auth(roles: Roles) -> AsyncIterator[AuthKit]:
    async with auth_for_tests(roles) as kit:
        yield kit


@pytest.fixture
async def alone_roles(postgres: PostgresForTests) -> AsyncIterator[Roles]:
    """A database that no other test sees."""
    async with postgres.database(MIGRATIONS) as roles:
        yield roles


@pytest.fixture
async def alone(alone_roles: Roles) -> AsyncIterator[AuthKit]:
    """A service whose database no other test sees."""
    async with auth_for_tests(alone_roles) as kit:
        yield kit
