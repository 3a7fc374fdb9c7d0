"""Tokens that are not for us are refused through the edge by every service, and the one that is, is not."""

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import uuid4

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from kgl_auth.domain.token_text import claims_of, header_of
from kgl_auth.testing import PASSWORD
from kgl_auth.testing_keycloak_server import SPA, KeycloakRealm, realm_on
from kgl_servicekit.testing.servers import real_servers
from tests.stack.harness import Stack
from tests.stack.identity import client_of

REQUESTS = (
    ("GET", "/auth/v1/me"),
    ("GET", "/ingest/v1/limits"),
    ("GET", "/operations/v1"),
    ("GET", "/graph/v1/stats"),
    ("GET", "/modules/v1/gazetteer"),
    ("GET", "/content/v1/items"),
    ("GET", "/publish/v1/endpoints"),
    ("GET", "/events/v1/consumers"),
    ("POST", "/live/v1/tickets"),
)
OTHER_AUDIENCE = "not-for-us"
Claims = dict[str, Any]


@pytest.fixture(scope="module")
async def tokens(stack: Stack) -> AsyncIterator[Mapping[str, str]]:
    """`good`, which our realm has given a client that is there meanwhile; and all others by what is wrong with them."""
    server = real_servers().keycloak
    assert server is not None
    ours = KeycloakRealm(server, "kgl")
    ours.front = stack.url
    person = await ours.create_user(f"{uuid4().hex[:12]}@example.com", "Grace Hopper", PASSWORD)
    try:
        async with client_of(ours, SPA, "kgl"), client_of(ours, OTHER_AUDIENCE, None), realm_on(server) as theirs:
            good = (await ours.tokens_elsewhere(person))["access_token"]
            stranger = await theirs.create_user(f"{uuid4().hex[:12]}@example.com", "A Stranger", PASSWORD)
            yield {
                "good": good,
                "another realm": await theirs.elsewhere(stranger),
                "another audience": (await ours.tokens_elsewhere(person, OTHER_AUDIENCE))["access_token"],
                **forged(header_of(good), claims_of(good)),
            }
    finally:
        await ours.delete(person)


def forged(header: Claims, claims: Claims) -> dict[str, str]:
    """The very token, signed by a key that is not the realm's."""
    key = RSAKey.generate_key(2048)
    fresh = {**claims, "iat": int(time.time()), "exp": int(time.time()) + 300}
    return {
        "another key under the realm's key id": jwt.encode(header, fresh, key),
        "another key": jwt.encode({**header, "kid": "mine"}, fresh, key),
        "another issuer": jwt.encode({**header, "kid": "mine"}, {**fresh, "iss": "https://id.example/realms/kgl"}, key),
    }


async def test_the_token_of_our_realm_is_known_to_every_service(stack: Stack, tokens: Mapping[str, str]) -> None:
    async with stack.client(key=tokens["good"]) as client:
        answers = {path: await client.request(method, path) for method, path in REQUESTS}
    assert answers["/auth/v1/me"].status_code == 200
    assert not [path for path, answer in answers.items() if answer.status_code in {401, 404, 405}]


@pytest.mark.parametrize(
    "wrong",
    [
        "another realm",
        "another audience",
        "another key under the realm's key id",
        "another key",
        "another issuer",
    ],
)
async def test_a_token_that_is_not_for_us_is_refused_by_every_service(
    stack: Stack, tokens: Mapping[str, str], wrong: str
) -> None:
    async with stack.client(key=tokens[wrong]) as client:
        for method, path in REQUESTS:
            answer = await client.request(method, path)
            assert answer.status_code == 401, (path, answer.text)
            assert answer.headers["content-type"] == "application/problem+json", path
            assert answer.headers["www-authenticate"].startswith("Bearer"), path
            assert answer.json()["code"] == "token_invalid", path
