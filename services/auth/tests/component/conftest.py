"""The auth service on a database that most tests share; what they make is their own."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from kgl_auth.bootstrap import MIGRATIONS
from kgl_auth.testing import PUBLIC_URL, AuthKit, auth_for_tests
from kgl_auth.testing_fake_keycloak import FakeKeycloak
from kgl_auth.testing_keycloak import KeycloakKit, keycloak_for_tests
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


@pytest.fixture(scope="session")
async def realm_roles(postgres: PostgresForTests) -> AsyncIterator[Roles]:
    """A database whose users are all Keycloak's; each test has people and a realm of its own."""
    async with postgres.database(MIGRATIONS) as roles:
        yield roles


@pytest.fixture
def lab() -> str:
    """The slug of a workspace that no other test has."""
    return f"lab-{uuid4().hex[:8]}"


@pytest.fixture
async def keycloak(realm_roles: Roles, lab: str) -> AsyncIterator[KeycloakKit[FakeKeycloak]]:
    """The service with a realm in this process, whose groups give roles in `lab`."""
    group_roles = {
        "/lab/editors": {"workspace": lab, "roles": ["editor"]},
        "lab/owners": {"workspace": lab, "roles": ["owner"]},
        "operators": [{"instance": ["operator"]}, {"workspace": lab, "roles": ["viewer"]}],
        "elsewhere": {"workspace": "not-there-yet", "roles": ["viewer"]},
    }
    realm = FakeKeycloak(f"{PUBLIC_URL}/realms/kgl")
    async with keycloak_for_tests(realm_roles, realm, realm, group_roles=group_roles) as kit:
        yield kit
