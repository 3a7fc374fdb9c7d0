"""For tests: a realm of its own on a real Keycloak server, made from the realm file and deleted in the end."""

import html
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx

from kgl_auth.domain.pkce import challenge_of, new_verifier
from kgl_auth.testing import PASSWORD, PUBLIC_URL
from kgl_auth.testing_fake_keycloak import SECRET
from kgl_servicekit.testing.servers import Login

_FILE = Path(__file__).parents[3] / "deploy" / "keycloak" / "kgl-realm.json"
_PLACEHOLDER = re.compile(r"\$\{(\w+)(?::([^}]*))?\}")
_FORM = re.compile(r'<form[^>]* action="([^"]+)"')
SPA = "spa"
SPA_CALLBACK = "http://localhost:5173/"


class KeycloakRealm:
    """A `Realm`. People log in by the forms of Keycloak's own pages; `groups` are made as they are needed."""

    def __init__(self, server: Login, name: str) -> None:
        self.name = name
        self.url = server.url
        self.front = server.url  # where browsers reach it, and the beginning of its issuer
        self._server = server
        self._http = httpx.AsyncClient(timeout=30, trust_env=False)
        self._browsers: dict[object, httpx.AsyncClient] = {}
        self._groups: dict[str, str] = {}

    @property
    def _pages(self) -> str:
        return f"{self.url}/realms/{self.name}/protocol/openid-connect"

    async def admin(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A request of the administrator below this realm's place in the admin API."""
        form = {"username": self._server.user, "password": self._server.password}
        form |= {"grant_type": "password", "client_id": "admin-cli"}
        given = await self._http.post(f"{self.url}/realms/master/protocol/openid-connect/token", data=form)
        headers = {"Authorization": f"Bearer {given.json()['access_token']}"}
        answer = await self._http.request(method, f"{self.url}/admin/realms{path}", headers=headers, **options)
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer

    async def start(self) -> None:
        """Import the file under this name, and add a client that is not ours."""
        values = {"KGL_PUBLIC_URL": PUBLIC_URL, "KGL_KEYCLOAK_CLIENT_SECRET": SECRET}
        text = _PLACEHOLDER.sub(lambda found: values.get(found[1], found[2]), _FILE.read_text())
        await self.admin("POST", "", json={**json.loads(text), "realm": self.name})
        mappers = next(client["protocolMappers"] for client in json.loads(text)["clients"])
        spa = {"clientId": SPA, "publicClient": True, "redirectUris": [SPA_CALLBACK], "protocolMappers": mappers}
        await self.admin("POST", f"/{self.name}/clients", json=spa)
        other = {"clientId": "not-for-us", "publicClient": True, "redirectUris": [SPA_CALLBACK]}
        await self.admin("POST", f"/{self.name}/clients", json=other)
        told = await self._http.get(f"{self.url}/realms/{self.name}/.well-known/openid-configuration")
        self.front = told.json()["issuer"].removesuffix(f"/realms/{self.name}")

    async def stop(self) -> None:
        """Delete the realm."""
        await self.admin("DELETE", f"/{self.name}")
        for client in (self._http, *self._browsers.values()):
            await client.aclose()

    async def create_user(self, email: str, name: str, password: str) -> UUID:
        first, _, last = name.partition(" ")
        credentials = [{"type": "password", "value": password, "temporary": False}]
        user = {"username": email, "email": email, "firstName": first, "lastName": last, "enabled": True}
        made = await self.admin("POST", f"/{self.name}/users", json={**user, "credentials": credentials})
        return UUID(made.headers["location"].rpartition("/")[2])

    async def log_in(self, url: str, email: str, password: str, browser: object) -> str:
        there = self._browsers.setdefault(browser, _browser())
        page = await there.get(url.replace(PUBLIC_URL, self.front).replace(self.url, self.front))
        if page.status_code != 302:
            page = await self.submit(there, page, email, password)
        if page.status_code != 302:
            raise LookupError(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", page.text)))
        return page.headers["location"]

    async def submit(self, there: httpx.AsyncClient, page: httpx.Response, email: str, password: str) -> httpx.Response:
        """Send the login page's form."""
        found = _FORM.search(page.text)
        assert found is not None, page.text[:2000]
        action = html.unescape(found[1]).replace(PUBLIC_URL, self.front)
        return await there.post(action, data={"username": email, "password": password})

    async def elsewhere(self, user_id: UUID, client: str = SPA, **claims: Any) -> str:
        """An access token of another client, in a session that is new."""
        given = await self.tokens_elsewhere(user_id, client)
        return str(given["access_token"])

    async def tokens_elsewhere(self, user_id: UUID, client: str = SPA) -> dict[str, Any]:
        """All that another client gets for a login in a new browser."""
        email = (await self.admin("GET", f"/{self.name}/users/{user_id}")).json()["email"]
        verifier = new_verifier()
        asked = {"response_type": "code", "client_id": client, "redirect_uri": SPA_CALLBACK, "scope": "openid"}
        asked |= {"code_challenge": challenge_of(verifier), "code_challenge_method": "S256"}
        url = str(httpx.URL(f"{self._pages}/auth", params=asked))
        back = httpx.URL(await self.log_in(url, email, PASSWORD, object()))
        form = {"grant_type": "authorization_code", "client_id": client, "redirect_uri": SPA_CALLBACK}
        form |= {"code": back.params["code"], "code_verifier": verifier}
        answer = await self._http.post(f"{self._pages}/token", data=form)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def disable(self, user_id: UUID) -> None:
        await self.admin("PUT", f"/{self.name}/users/{user_id}", json={"enabled": False})

    async def enable(self, user_id: UUID) -> None:
        """Let a user log in again."""
        await self.admin("PUT", f"/{self.name}/users/{user_id}", json={"enabled": True})

    async def delete(self, user_id: UUID) -> None:
        await self.admin("DELETE", f"/{self.name}/users/{user_id}")

    async def log_out_everywhere(self, user_id: UUID) -> None:
        await self.admin("POST", f"/{self.name}/users/{user_id}/logout")

    async def end_session(self, session_id: str) -> None:
        await self.admin("DELETE", f"/{self.name}/sessions/{session_id}")

    async def join(self, user_id: UUID, group: str) -> None:
        await self.admin("PUT", f"/{self.name}/users/{user_id}/groups/{await self._group(group)}")

    async def leave(self, user_id: UUID, group: str) -> None:
        await self.admin("DELETE", f"/{self.name}/users/{user_id}/groups/{await self._group(group)}")

    async def _group(self, path: str) -> str:
        """The id of a group by its path, made with those above it."""
        if path not in self._groups:
            above, _, name = path.rpartition("/")
            place = f"/{self.name}/groups/{await self._group(above)}/children" if above else f"/{self.name}/groups"
            made = await self.admin("POST", place, json={"name": name})
            self._groups[path] = made.headers["location"].rpartition("/")[2] if not above else made.json()["id"]
        return self._groups[path]


@asynccontextmanager
async def realm_on(server: Login) -> AsyncIterator[KeycloakRealm]:
    """A realm like ours, under a name of its own."""
    realm = KeycloakRealm(server, f"kgl-test-{uuid4().hex[:8]}")
    await realm.start()
    try:
        yield realm
    finally:
        await realm.stop()


def settings_of(realm: KeycloakRealm) -> dict[str, Any]:
    """What a service has to be told to use this realm."""
    told = {"keycloak_url": realm.url, "keycloak_realm": realm.name}
    # a server that is told its own name says it in every token, however it is asked
    return told if realm.front == realm.url else {**told, "issuer": f"{realm.front}/realms/{realm.name}"}


def _browser() -> httpx.AsyncClient:
    """A client that keeps cookies for https alone also over http, as browsers do on a loopback address."""
    client = httpx.AsyncClient(timeout=30, trust_env=False)

    async def keep(response: httpx.Response) -> None:
        for cookie in client.cookies.jar:
            cookie.secure = False

    client.event_hooks = {"response": [keep]}
    return client
