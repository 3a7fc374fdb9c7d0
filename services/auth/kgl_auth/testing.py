"""For tests: the service on a real database, and a browser without scripts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, TypeVar
from urllib.parse import urljoin
from uuid import UUID, uuid4

import httpx
from fastapi import FastAPI

from kgl_auth.bootstrap import build
from kgl_auth.consumers.audit import on_record_made
from kgl_auth.domain.oidc import OidcClient
from kgl_auth.domain.pkce import challenge_of, new_verifier
from kgl_auth.settings import AuthSettings
from kgl_contracts.audit import RecordMade
from kgl_contracts.envelope import Envelope
from kgl_contracts.event import EventData
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.database.cause import Cause
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import Event
from kgl_servicekit.service import Service
from kgl_servicekit.testing.postgres import Roles

E = TypeVar("E", bound=EventData)

PUBLIC_URL = "http://localhost:8080"
PASSWORD = "correct horse battery"  # noqa: S105
CALLBACK = "https://app.example/callback"
CLIENT = OidcClient(client_id="app", redirect_uris=(CALLBACK,), post_logout_redirect_uris=("https://app.example/bye",))

OTHER_CLIENT = OidcClient(client_id="other", redirect_uris=(CALLBACK,))


class Form(HTMLParser):
    """The only form of a page: where it goes, and what it sends besides what is typed."""

    def __init__(self, page: httpx.Response) -> None:
        super().__init__()
        self.action = ""
        self.values: dict[str, str] = {}
        self.feed(page.text)
        self.action = urljoin(str(page.url), self.action)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self.action = given.get("action") or ""
        elif tag == "input":
            self.values[given.get("name") or ""] = given.get("value") or ""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an account."""

    id: UUID
    email: str
    workspace: UUID
    slug: str


@dataclass(slots=True)
class AuthKit:
    """The running service. `address` is where its clients come from."""

    service: Service
    app: FastAPI
    address: str = "192.0.2.1"
    _clients: list[httpx.AsyncClient] = field(default_factory=list)

    @property
    def database(self) -> Database:
        return self.service.database

    def browser(self, address: str | None = None) -> httpx.AsyncClient:
        """A client with cookies of its own."""
        transport = httpx.ASGITransport(self.app, client=(address or self.address, 4000))
        client = httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL)
        self._clients.append(client)
        return client

    async def close(self) -> None:
        """Close the clients."""
        for client in self._clients:
            await client.aclose()

    async def register(self, name: str = "Ada Lovelace", email: str | None = None) -> Person:
        """A new account with `PASSWORD`, from an address of its own."""
        email = email or f"{uuid4().hex[:12]}@example.com"
        browser = self.browser(address=uuid4().hex)
        answer = await browser.post("/auth/v1/register", json={"email": email, "password": PASSWORD, "name": name})
        assert answer.status_code == 201, answer.text
        made = answer.json()
        workspace = made["workspace"]
        return Person(UUID(made["user"]["id"]), email, UUID(workspace["id"]), workspace["slug"])

    async def login_page(self, browser: httpx.AsyncClient, next: str = "/") -> httpx.Response:
        """The page that a browser sees after GET /auth/v1/login."""
        page = await browser.get("/auth/v1/login", params={"next": next}, follow_redirects=True)
        assert page.status_code == 200, page.text
        return page

    async def submit(self, browser: httpx.AsyncClient, page: httpx.Response, **typed: str) -> httpx.Response:
        """Send the form of a page, as a browser does."""
        form = Form(page)
        return await browser.post(form.action, data={**form.values, **typed}, headers={"Origin": PUBLIC_URL})

    async def log_in(
        self, person: Person, browser: httpx.AsyncClient | None = None, next: str = "/"
    ) -> httpx.AsyncClient:
        """A browser with a session of this person."""
        browser = browser or self.browser()
        page = await self.login_page(browser, next)
        sent = await self.submit(browser, page, email=person.email, password=PASSWORD)
        assert sent.status_code == 303, sent.text
        back = await browser.get(sent.headers["location"])
        assert back.status_code == 303, back.text
        assert back.headers["location"] == next
        return browser

    async def access_token(self, browser: httpx.AsyncClient) -> str:
        """What a page gets for the browser's cookie."""
        answer = await browser.post("/auth/v1/token", headers={"Origin": PUBLIC_URL})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    async def bearer(self, person: Person, workspace: UUID | None = None) -> dict[str, str]:
        """Headers with an access token of this person, in their own workspace or another one."""
        token = await self.access_token(await self.log_in(person))
        return {"Authorization": f"Bearer {token}", "Kgl-Workspace": str(workspace or person.workspace)}

    async def emitted(self, kind: type[E]) -> list[E]:
        """All events of a type, in the order of their ids."""

        async def read(tx: Transaction, name: str) -> list[bytes]:
            rows = await tx.fetch("select data from outbox_log where type = $1 order by id", name)
            return [row["data"] for row in rows]

        return [kind.model_validate_json(data) for data in await self.database.run((), read, kind.event_type)]

    async def record(self, made: RecordMade, workspace: UUID | None) -> Any:
        """Have the audit consumer take a record, as if it came from the bus."""
        cause = Cause(id=uuid4(), kind="event", actor=made.actor, at=made.at)
        envelope = Envelope(id=cause.id, type=made.event_type, source="test", time=made.at, workspace_id=workspace)

        async def consume(tx: Transaction, event: Event[RecordMade]) -> Any:
            return await on_record_made(tx.scoped(cause, () if workspace is None else (workspace,)), event)

        return await self.database.run(workspace or (), consume, Event(made, envelope), cause=cause)


@dataclass(frozen=True, slots=True)
class AppLogin:
    """A login of an OpenID client at the issuer: what it asks, and its secret."""

    verifier: str = field(default_factory=new_verifier)
    state: str = "state-1"
    nonce: str = "nonce-1"

    def asked(self, **changes: str | None) -> dict[str, str]:
        """The query of the authorization request; a change to None leaves a parameter out."""
        values: dict[str, str | None] = {
            "response_type": "code",
            "client_id": CLIENT.client_id,
            "redirect_uri": CALLBACK,
            "scope": "openid email profile",
            "state": self.state,
            "nonce": self.nonce,
            "code_challenge": challenge_of(self.verifier),
            "code_challenge_method": "S256",
            **changes,
        }
        return {name: value for name, value in values.items() if value is not None}

    def redemption(self, code: str, **changes: str) -> dict[str, str]:
        """The form of the token request."""
        return {
            "grant_type": "authorization_code",
            "client_id": CLIENT.client_id,
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": self.verifier,
            **changes,
        }

    async def code(self, kit: AuthKit, browser: httpx.AsyncClient, person: Person) -> str:
        """Log in by the page; the code that the client gets."""
        page = await browser.get("/auth/v1/oidc/authorize", params=self.asked())
        sent = await kit.submit(browser, page, email=person.email, password=PASSWORD)
        assert sent.status_code == 303, sent.text
        return httpx.URL(sent.headers["location"]).params["code"]


@asynccontextmanager
async def auth_for_tests(roles: Roles, **changes: Any) -> AsyncIterator[AuthKit]:
    """The service with cheap password hashes; `changes` are settings."""
    values: dict[str, Any] = {
        "env": "test",
        "public_url": PUBLIC_URL,
        "database_url": roles.service,
        "bus_url": "postgresql:///unused",
        "oidc_clients": (CLIENT, OTHER_CLIENT),
        "argon2_passes": 1,
        "argon2_memory_kib": 64,
        "registrations_per_minute": 1000,
        **changes,
    }
    service = build(AuthSettings(**values), MemoryBus())
    kit = AuthKit(service, service.api())
    async with service.opened():
        try:
            yield kit
        finally:
            await kit.close()
