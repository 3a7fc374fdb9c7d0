import pytest

from tests.stack.harness import Stack


@pytest.fixture(scope="session")
def stack() -> Stack:
    """The system that `make test-stack` has started."""
    return Stack.running()
