"""For tests: the service with a realm of Keycloak, whose people and administrators do what a test asks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID, uuid4

import httpx

from kgl_auth.bootstrap import build
from kgl_auth.db import sessions
from kgl_auth.keycloak_watch import KeycloakWatch
from kgl_auth.outside import AuthOutside
from kgl_auth.settings import AuthSettings
from kgl_auth.testing import PASSWORD, PUBLIC_URL, AuthKit, Person
from kgl_auth.testing_fake_keycloak import BACK, SECRET
from kgl_auth.use_cases.create_first_owner import CreateFirstOwner, FirstOwner
from kgl_contracts.identity import SessionRevoked, UserRevoked
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.testing.postgres import Roles


class Realm(Protocol):
    """A realm whose people and administrators do what a test asks: the one in this process, or a real one."""

    async def create_user(self, email: str, name: str, password: str) -> UUID: ...
    async def log_in(self, url: str, email: str, password: str, browser: object) -> str: ...
    async def elsewhere(self, user_id: UUID, **claims: Any) -> str: ...
    async def disable(self, user_id: UUID) -> None: ...
    async def delete(self, user_id: UUID) -> None: ...
    async def log_out_everywhere(self, user_id: UUID) -> None: ...
    async def end_session(self, session_id: str) -> None: ...
    async def join(self, user_id: UUID, group: str) -> None: ...
    async def leave(self, user_id: UUID, group: str) -> None: ...


R = TypeVar("R", bound=Realm)


@dataclass(slots=True, kw_only=True)
class KeycloakKit(AuthKit, Generic[R]):
    """The running service with a realm as its identity provider."""

    realm: R
    watch: KeycloakWatch

    async def log_in(
        self, person: Person, browser: httpx.AsyncClient | None = None, next: str = "/"
    ) -> httpx.AsyncClient:
        """A browser with a session of this person."""
        browser = browser or self.browser()
        back = await self.come_back(person, browser, next)
        assert back.status_code == 303, back.text
        assert back.headers["location"] == next
        return browser

    async def come_back(self, person: Person, browser: httpx.AsyncClient, next: str = "/") -> httpx.Response:
        """What the browser gets that comes back from Keycloak."""
        return await browser.get(await self.way_back(person, browser, next))

    async def way_back(self, person: Person, browser: httpx.AsyncClient, next: str = "/") -> str:
        """Where Keycloak sends the browser."""
        begun = await browser.get("/auth/v1/login", params={"next": next})
        assert begun.status_code == 303, begun.text
        return await self.realm.log_in(begun.headers["location"], person.email, PASSWORD, browser)

    async def newcomer(self, name: str = "Ada Lovelace") -> Person:
        """Somebody with an account at Keycloak whom we have never seen; the workspace is not theirs yet."""
        email = f"{uuid4().hex[:12]}@example.com"
        return Person(await self.realm.create_user(email, name, PASSWORD), email, uuid4(), "")

    async def me(self, token: str) -> httpx.Response:
        """Who the service says the bearer of this token is."""
        return await self.browser().get("/auth/v1/me", headers={"Authorization": f"Bearer {token}"})

    async def roles_in(self, token: str, slug: str) -> list[str]:
        """The roles of the bearer in a workspace, sorted; none for a stranger."""
        mine = (await self.me(token)).json()["workspaces"]
        return sorted(role for each in mine if each["slug"] == slug for role in each["roles"])

    async def sid_of(self, browser: httpx.AsyncClient) -> str:
        """The id of a browser's session."""

        async def read(tx: Transaction, cookie: str) -> str:
            found = await sessions.find_browser_session(tx, cookie)
            assert found is not None
            return found.session_id

        return await self.database.run((), read, browser.cookies["kgl_session"])

    async def first_owner(self, slug: str) -> FirstOwner:
        """The owner of the installation, and of the workspace with this slug."""
        email = f"Owner@{slug}.localhost"
        command = CreateFirstOwner(email=email, password=PASSWORD, name="Owner", workspace_slug=slug)
        outside: AuthOutside = self.service.outside
        return await outside.accounts.create_first_owner(command)

    async def revocations_of(self, person: Person) -> list[UserRevoked]:
        """What services were told of this user."""
        return [event for event in await self.emitted(UserRevoked) if event.user_id == person.id]

    async def ended_of(self, person: Person) -> list[str]:
        """The sessions of this user that services were told to refuse."""
        return [event.session_id for event in await self.emitted(SessionRevoked) if event.user_id == person.id]


@asynccontextmanager
async def keycloak_for_tests(
    roles: Roles, realm: R, transport: httpx.AsyncBaseTransport | None, **changes: Any
) -> AsyncIterator[KeycloakKit[R]]:
    """The service with a realm; `changes` are settings. Its loop does not run: tests call `watch.read`."""
    settings = settings_with_keycloak(roles, **changes)
    service = build(settings, MemoryBus(), transport)
    owners = (getattr(loop, "__self__", None) for loop in service.loops)
    watch = next(owner for owner in owners if isinstance(owner, KeycloakWatch))
    kit = KeycloakKit(service=service, app=service.api(), realm=realm, watch=watch)
    async with service.opened():
        try:
            yield kit
        finally:
            await kit.close()


def settings_with_keycloak(roles: Roles, **changes: Any) -> AuthSettings:
    """Settings for a realm at `BACK`."""
    values: dict[str, Any] = {
        "env": "test",
        "public_url": PUBLIC_URL,
        "database_url": roles.service,
        "bus_url": "postgresql://unused",
        "identity": "keycloak",
        "keycloak_url": BACK,
        "keycloak_client_secret": SECRET,
        "registrations_per_minute": 1000,
        **changes,
    }
    return AuthSettings(**values)
