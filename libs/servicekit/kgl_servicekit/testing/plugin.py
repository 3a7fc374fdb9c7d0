"""Fixtures for the tests of services: `-p kgl_servicekit.testing.plugin`."""

from collections.abc import Iterator

import pytest

from kgl_servicekit.testing.kafka import MockCluster, mock_cluster
from kgl_servicekit.testing.postgres import PostgresForTests, temporary_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresForTests]:
    """One real server for the whole run."""
    with temporary_postgres() as url:
        yield PostgresForTests(url)


@pytest.fixture(scope="session")
def kafka() -> Iterator[MockCluster]:
    """One mock cluster for the whole run; tests keep apart by prefixes."""
    with mock_cluster() as cluster:
        yield cluster


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--run-slow` takes the long tests in."""
    parser.addoption("--run-slow", action="store_true", help="also run the tests that are marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long tests out, and say so."""
    if config.getoption("--run-slow"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="takes long; make test-all runs it"))
