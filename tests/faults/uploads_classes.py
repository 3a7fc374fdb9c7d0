"""F9 to F11: the servers that only some of the services stand on are away, silent, slow, or change their keys."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar
from uuid import uuid4

import httpx

from kgl_auth.domain.token_text import header_of
from kgl_auth.testing import PASSWORD
from kgl_auth.testing_keycloak_server import SPA, KeycloakRealm
from kgl_servicekit.identity.jwks import RETRY_SECONDS
from kgl_servicekit.testing.servers import Login
from tests.faults.uploads import UploadsFault, UploadsStage
from tests.stack.harness import Stack
from tests.stack.identity import client_of

REALM = "kgl"
CHECKED_AT = ("/auth/v1/me", "/ingest/v1/limits", "/graph/v1/stats", "/content/v1/items", "/publish/v1/endpoints")
_NEWER = {
    "name": "newer",
    "providerId": "rsa-generated",
    "providerType": "org.keycloak.keys.KeyProvider",
    "config": {"priority": ["200"], "enabled": ["true"], "active": ["true"], "keySize": ["2048"]},
}


class _ServerOut(UploadsFault):
    server: ClassVar[str]
    dependency: ClassVar[str]
    concerned: ClassVar[Sequence[str]]
    door: ClassVar[tuple[int, str | None]]

    async def during(self, stage: UploadsStage) -> None:
        await stage.away(self.server, self.dependency, self.concerned, self.door)
        await stage.killed(self.server, self.door)
        await stage.frozen(self.server, stage.times.fault / 2)
        await stage.slow(self.server, stage.times.fault / 2)


class ObjectsOut(_ServerOut):
    """Documents are refused, or accepted and done later; none is accepted without its file."""

    name = "F9"
    title = "MinIO away, killed, silent, slow"
    server = "minio"
    dependency = "objects"
    concerned = ("ingest-api", "ingest-worker", "graph-worker")
    door = (9000, "/minio/health/live")


class VectorsOut(_ServerOut):
    """Documents are accepted, and found by their meaning once it is back."""

    name = "F10"
    title = "Weaviate away, killed, silent, slow"
    server = "weaviate"
    dependency = "vectors"
    concerned = ("graph-api", "graph-worker")
    door = (8080, "/v1/.well-known/ready")


class IdentityOut(UploadsFault):
    """Who has a token goes on with it; a new key of the issuer is known to every service half a minute later."""

    name = "F11"
    title = "Keycloak away, silent; its keys change"

    @asynccontextmanager
    async def around(self, stage: UploadsStage) -> AsyncIterator[None]:
        """A person with a token, who looks at her own page all the time."""
        realm = await _realm(stage.stack)
        self.person = await realm.create_user(f"{uuid4().hex[:12]}@example.com", "Grace Hopper", PASSWORD)
        try:
            async with client_of(realm, SPA, "kgl"):
                self.token = (await realm.tokens_elsewhere(self.person))["access_token"]
                stage.load.looked_at.append(("/auth/v1/me", self.token))
                yield
        finally:
            await (await _realm(stage.stack)).delete(self.person)

    async def during(self, stage: UploadsStage) -> None:
        await self._rotated(stage)
        await stage.frozen("keycloak", stage.times.fault / 2)
        await stage.away("keycloak", "keycloak", ("auth-api",), (9000, "/health/ready"))
        refused = [
            line for line in stage.history.lines if line.what == "attempt" and line.data.get("status") in (401, 403)
        ]
        if refused:
            stage.findings.complain("I12", f"{len(refused)} requests with a good token or key were refused", refused[0])

    async def _rotated(self, stage: UploadsStage) -> None:
        """A token of the new key is taken by every service, and that of the old one still is."""
        realm = await _realm(stage.stack)
        stage.history.add("fault", "the keys change")
        made = await realm.admin("POST", f"/{REALM}/components", json=_NEWER)
        try:
            newer = (await realm.tokens_elsewhere(self.person))["access_token"]
            if header_of(newer)["kid"] == header_of(self.token)["kid"]:
                stage.findings.complain("I12", "the realm has not changed its key")
            stage.figures["new_key_known_s"] = round(await _taken_everywhere(stage, newer), 1)
            if await _refusing(stage, self.token):
                stage.findings.complain("I12", "a token of the old key is refused")
        finally:
            await realm.admin("DELETE", f"/{REALM}/components/{made.headers['location'].rpartition('/')[2]}")
        await stage.healed()


async def _realm(stack: Stack) -> KeycloakRealm:
    """Ours, wherever the server is now, as its administrator."""
    url = f"http://{await stack.address('keycloak')}:8080"
    realm = KeycloakRealm(Login(url=url, user="admin", password=stack.settings["KGL_KEYCLOAK_ADMIN_PASSWORD"]), REALM)
    realm.front = stack.url
    return realm


async def _taken_everywhere(stage: UploadsStage, token: str) -> float:
    """Seconds until every service takes a token; they ask for keys again after half a minute at the latest."""
    begun = time.monotonic()
    while refusing := await _refusing(stage, token):
        if time.monotonic() - begun > RETRY_SECONDS + 5:
            stage.findings.complain("I12", f"a token of the new key is refused by {', '.join(refusing)}")
            break
        await asyncio.sleep(0.5)
    return time.monotonic() - begun


async def _refusing(stage: UploadsStage, token: str) -> list[str]:
    async with httpx.AsyncClient(base_url=stage.stack.url, timeout=20, trust_env=False) as http:
        headers = {"Authorization": f"Bearer {token}"}
        answers = await asyncio.gather(*(http.get(page, headers=headers) for page in CHECKED_AT))
    return [page for page, answer in zip(CHECKED_AT, answers, strict=True) if answer.status_code in (401, 503)]


UPLOADS_CLASSES: dict[str, type[UploadsFault]] = {made.name: made for made in (ObjectsOut, VectorsOut, IdentityOut)}
