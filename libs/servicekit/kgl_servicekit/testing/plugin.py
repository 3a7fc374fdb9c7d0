"""Fixtures for the tests of services: `-p kgl_servicekit.testing.plugin`."""

from collections.abc import Iterator

import pytest

from kgl_servicekit.testing.postgres import PostgresForTests, temporary_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresForTests]:
    """One real server for the whole run."""
    with temporary_postgres() as url:
        yield PostgresForTests(url)
