"""F9 to F11 on real servers: one that some of the services stand on is away, silent, slow, or changes its keys."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar
from uuid import UUID, uuid4

import httpx

from kgl_auth.domain.token_text import header_of
from kgl_auth.testing import PASSWORD
from kgl_auth.testing_keycloak_server import SPA, KeycloakRealm
from kgl_servicekit.identity.jwks import RETRY_SECONDS
from kgl_servicekit.testing.servers import Login
from tests.faults.documents_on_stack import StackDocuments
from tests.faults.documents_run import OBJECTS_CONCERN, DocumentsFault, DocumentsStage
from tests.stack.harness import Stack
from tests.stack.identity import client_of
from tests.stack.watch import ended_at

Stage = DocumentsStage[StackDocuments]
REALM = "kgl"
CHECKED_AT = ("/auth/v1/me", "/ingest/v1/limits", "/graph/v1/stats", "/content/v1/items", "/publish/v1/endpoints")
_NEWER = {
    "name": "newer",
    "providerId": "rsa-generated",
    "providerType": "org.keycloak.keys.KeyProvider",
    "config": {"priority": ["200"], "enabled": ["true"], "active": ["true"], "keySize": ["2048"]},
}


class StackFault(DocumentsFault[StackDocuments]):
    """On the whole system. `faults` are the seconds of each fault here."""

    async def away(self, stage: Stage, server: str, dependency: str, concerned: Sequence[str]) -> None:
        """A server ends in good order, and is started again; I12: all that need it say so, both times."""
        stage.history.add("fault", f"{server} is away")
        container = stage.system.server(server)
        async with stage.watching(concerned, dependency) as watch:
            await container.stop(clean=True)
            try:
                gone = await ended_at(stage.system.stack, server)
                await stage.told(watch, gone, up=False)
                await asyncio.sleep(max(0.0, gone + stage.times.faults - time.time()))
            finally:
                await container.start()
            await stage.told(watch, time.time(), up=True)
        await stage.healed()

    async def frozen(self, stage: Stage, server: str) -> None:
        """A server takes connections, and answers nothing."""
        stage.history.add("fault", f"{server} is frozen")
        await stage.system.server(server).freeze(stage.times.faults / 2)
        await stage.healed()


class _ServerOut(StackFault):
    server: ClassVar[str]
    dependency: ClassVar[str]
    concerned: ClassVar[Sequence[str]]

    async def during(self, stage: Stage) -> None:
        container = stage.system.server(self.server)
        await self.away(stage, self.server, self.dependency, self.concerned)
        stage.history.add("fault", f"{self.server} is killed")
        await container.restart(clean=False)
        await stage.healed()
        await self.frozen(stage, self.server)
        stage.history.add("fault", f"{self.server} is slow")
        await container.slow_down(stage.times.faults / 2)


class ObjectsOut(_ServerOut):
    """Documents are refused, or accepted and done later; none is accepted without its file."""

    name = "F9"
    title = "MinIO away, killed, silent, slow"
    server = "minio"
    dependency = "objects"
    concerned = OBJECTS_CONCERN
    longest_upload = 30.0  # it waits for a store of objects that is silent


class VectorsOut(_ServerOut):
    """Documents are accepted, and found by their meaning once it is back."""

    name = "F10"
    title = "Weaviate away, killed, silent, slow"
    server = "weaviate"
    dependency = "vectors"
    concerned = ("graph-api", "graph-worker")


class IdentityOut(StackFault):
    """Who has a token goes on with it; a new key of the issuer is known to every service half a minute later."""

    name = "F11"
    title = "Keycloak away, silent; its keys change"

    async def during(self, stage: Stage) -> None:
        realm = await _realm(stage.system.stack)
        async with _person(stage.system.stack, realm) as person:
            token = (await realm.tokens_elsewhere(person))["access_token"]
            her_page = ("/auth/v1/me", {"Authorization": f"Bearer {token}"})
            stage.load.looked_at.append(her_page)
            await self._rotated(stage, realm, person, token)
            await self.frozen(stage, "keycloak")
            await self.away(stage, "keycloak", "keycloak", ("auth-api",))
            stage.load.looked_at.remove(her_page)
        attempts = [line for line in stage.history.lines if line.what == "attempt"]
        if refused := [line for line in attempts if line.data.get("status") in (401, 403)]:
            stage.findings.complain("I12", f"{len(refused)} requests with a good token or key were refused", refused[0])

    async def _rotated(self, stage: Stage, realm: KeycloakRealm, person: UUID, token: str) -> None:
        """A token of the new key is taken by every service, and that of the old one still is."""
        stage.history.add("fault", "the keys change")
        made = await realm.admin("POST", f"/{REALM}/components", json=_NEWER)
        try:
            newer = (await realm.tokens_elsewhere(person))["access_token"]
            if header_of(newer)["kid"] == header_of(token)["kid"]:
                stage.findings.complain("I12", "the realm has not changed its key")
            stage.figures["new_key_known_s"] = round(await _taken_everywhere(stage, newer), 1)
            if await _refusing(stage, token):
                stage.findings.complain("I12", "a token of the old key is refused")
        finally:
            await realm.admin("DELETE", f"/{REALM}/components/{made.headers['location'].rpartition('/')[2]}")
        await stage.healed()


@asynccontextmanager
async def _person(stack: Stack, realm: KeycloakRealm) -> AsyncIterator[UUID]:
    """Somebody who can have tokens."""
    person = await realm.create_user(f"{uuid4().hex[:12]}@example.com", "Grace Hopper", PASSWORD)
    try:
        async with client_of(realm, SPA, "kgl"):
            yield person
    finally:
        await (await _realm(stack)).delete(person)


async def _realm(stack: Stack) -> KeycloakRealm:
    """Ours, wherever the server is now, as its administrator."""
    url = f"http://{await stack.address('keycloak')}:8080"
    realm = KeycloakRealm(Login(url=url, user="admin", password=stack.settings["KGL_KEYCLOAK_ADMIN_PASSWORD"]), REALM)
    realm.front = stack.url
    return realm


async def _taken_everywhere(stage: Stage, token: str) -> float:
    """Seconds until every service takes a token; they ask for keys again after half a minute at the latest."""
    begun = time.monotonic()
    while refusing := await _refusing(stage, token):
        if time.monotonic() - begun > RETRY_SECONDS + 5:
            stage.findings.complain("I12", f"a token of the new key is refused by {', '.join(refusing)}")
            break
        await asyncio.sleep(0.5)
    return time.monotonic() - begun


async def _refusing(stage: Stage, token: str) -> list[str]:
    async with httpx.AsyncClient(base_url=stage.system.stack.url, timeout=20, trust_env=False) as http:
        headers = {"Authorization": f"Bearer {token}"}
        answers = await asyncio.gather(*(http.get(page, headers=headers) for page in CHECKED_AT))
    return [page for page, answer in zip(CHECKED_AT, answers, strict=True) if answer.status_code in (401, 503)]


STACK_DOCUMENTS_CLASSES: dict[str, type[StackFault]] = {
    made.name: made for made in (ObjectsOut, VectorsOut, IdentityOut)
}
