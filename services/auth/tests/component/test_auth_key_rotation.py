"""Rotation of the issuer's keys, by a clock that the test moves: no token is refused before its end."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from kgl_auth.db.signing_keys import list_key_times
from kgl_auth.domain.key_schedule import PUBLISHED_BEFORE, KeyTimes
from kgl_auth.domain.tokens import Grant, SigningKey, access_claims, sign
from kgl_auth.key_rotation import KeyRotation
from kgl_auth.stores.key_ring import KeyRing
from kgl_auth.testing import AuthKit
from kgl_auth.use_cases.create_first_owner import CreateFirstOwner, create_first_owner
from kgl_auth.use_cases.rotate_keys import RotateKeys, rotate_keys
from kgl_contracts.audit import RecordMade
from kgl_servicekit.database.engine import Database
from kgl_servicekit.identity.credential import AccessToken
from kgl_servicekit.identity.jwks import CachedJwks
from kgl_servicekit.identity.problems import TokenExpired, TokenInvalid
from kgl_servicekit.identity.tokens import TokenVerifier

ISSUER = "http://localhost:8080/auth/v1/oidc"
USER = UUID("0198f3a0-0000-7000-8000-000000000011")
MONTH, HOUR, MINUTE, SECOND = timedelta(days=30), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
KEYS = [SigningKey.generate() for _ in range(3)]


class Clock:
    """One time for the issuer and for those who verify."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def seconds(self) -> float:
        return self.at.timestamp()


class Site:
    """Two processes of the issuer, and a service that verifies; it keeps the keys as long as it may."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = Clock()
        self.first, self.second = KeyRing(database, self.clock), KeyRing(database, self.clock)
        self.fetched = 0
        self.jwks = CachedJwks(self.fetch, self.clock.seconds)
        self.verifier = TokenVerifier(self.jwks, ISSUER, now=self.clock.seconds)

    async def fetch(self) -> Any:
        self.fetched += 1
        return await self.second.jwks()

    async def token(self, lifetime: timedelta = HOUR, key: SigningKey | None = None) -> AccessToken:
        """A token of this moment, signed by the first process, or with a key that somebody kept."""
        grant = Grant(
            session_id="s",
            user_id=USER,
            email="ada@example.com",
            name="Ada",
            client_id="app",
            scope="openid",
            authenticated_at=self.clock.at,
            granted_at=self.clock.at,
        )
        claims = access_claims(grant, issuer=ISSUER, lifetime=int(lifetime.total_seconds()), token_id=USER)
        return AccessToken(sign(claims, key or await self.first.active(), kind="at+jwt"))

    async def rotate(self, key: SigningKey) -> KeyTimes:
        return await self.database.run((), rotate_keys, RotateKeys(key=key, at=self.clock.at))

    async def kids(self) -> list[str]:
        return [key["kid"] for key in (await self.first.jwks())["keys"]]

    async def holds(self, *tokens: AccessToken) -> None:
        for token in tokens:
            assert (await self.verifier.verify(token)).user_id == USER


@pytest.fixture
def site(alone: AuthKit) -> Site:
    return Site(alone.database)


async def test_tokens_of_before_during_and_after_a_rotation_verify_until_their_end(site: Site) -> None:
    old = await site.first.active()
    before = await site.token()
    await site.holds(before)
    await site.rotate(KEYS[0])

    site.clock.at += MINUTE
    assert await site.kids() == [KEYS[0].kid, old.kid]
    assert (await site.first.active()).kid == (await site.second.active()).kid == old.kid
    during = await site.token()
    await site.holds(before, during)

    site.clock.at += PUBLISHED_BEFORE - MINUTE - SECOND
    last = await site.token()
    site.clock.at += SECOND
    assert (await site.first.active()).kid == (await site.second.active()).kid == KEYS[0].kid
    after = await site.token()
    await site.holds(before, during, last, after)
    site.clock.at += HOUR - 2 * SECOND
    for ended in (before, during):
        with pytest.raises(TokenExpired):
            await site.verifier.verify(ended)
    await site.holds(last, after)
    assert await site.kids() == [KEYS[0].kid, old.kid]

    site.clock.at += 10 * MINUTE
    assert await site.kids() == [KEYS[0].kid]


async def test_the_new_key_is_known_to_every_verifier_before_it_signs(site: Site) -> None:
    await site.holds(await site.token())
    site.clock.at += MINUTE
    await site.rotate(KEYS[0])
    while (await site.first.active()).kid != KEYS[0].kid:
        site.clock.at += MINUTE
        await site.holds(await site.token(5 * MINUTE))
    asked = site.fetched
    site.clock.at += timedelta(seconds=1)
    await site.holds(await site.token())
    assert site.fetched == asked


async def test_what_a_rotated_out_key_signs_is_refused_after_its_time(site: Site) -> None:
    old = await site.first.active()
    await site.rotate(KEYS[0])
    site.clock.at += PUBLISHED_BEFORE + HOUR
    await site.holds(await site.token(key=old))
    site.clock.at += 11 * MINUTE
    await site.holds(await site.token())
    forged = await site.token(key=old)
    with pytest.raises(TokenInvalid):
        await site.verifier.verify(forged)


async def test_a_flood_of_unknown_keys_asks_the_issuer_once_in_30_seconds(site: Site) -> None:
    await site.holds(await site.token())
    site.clock.at += timedelta(seconds=40)
    for second in range(60):
        for key in KEYS:
            with pytest.raises(TokenInvalid):
                await site.verifier.verify(await site.token(key=key))
        assert site.fetched <= 2 + second // 30
        site.clock.at += timedelta(seconds=1)
    assert site.fetched == 3


async def test_processes_that_rotate_at_once_make_one_key(site: Site, alone: AuthKit) -> None:
    old = await site.first.active()
    made = await asyncio.gather(*(site.rotate(key) for key in KEYS))
    assert len({key.kid for key in made}) == 1
    assert set(await KeyRing(site.database, site.clock).public()) == {old.kid, made[0].kid}
    records = [each for each in await alone.emitted(RecordMade) if each.action == "signing_key.rotate"]
    assert [(each.scope, each.target) for each in records] == [("instance", f"signing_key:{made[0].kid}")]


async def kept(site: Site) -> list[KeyTimes]:
    return await site.database.run((), list_key_times, None)


async def test_a_key_is_rotated_when_it_is_old_enough_and_its_private_half_is_deleted_when_it_is_gone(
    site: Site,
) -> None:
    rotation = KeyRotation(site.database, MONTH, site.clock)
    await rotation.check()
    assert await kept(site) == []
    first = await site.first.active()
    site.clock.at += MONTH - MINUTE
    await rotation.check()
    assert [key.kid for key in await kept(site)] == [first.kid]
    site.clock.at += MINUTE
    await asyncio.gather(*(KeyRotation(site.database, MONTH, site.clock).check() for _ in range(3)))
    old, new = await kept(site)
    assert old.kid == first.kid
    assert new.signs_from == site.clock.at + PUBLISHED_BEFORE
    site.clock.at += PUBLISHED_BEFORE + HOUR
    await rotation.check()
    assert len(await kept(site)) == 2
    site.clock.at += 5 * MINUTE
    await rotation.check()
    assert [key.kid for key in await kept(site)] == [new.kid]


async def test_an_operator_rotates_by_a_request_and_sees_the_states(alone: AuthKit) -> None:
    owner = await alone.database.run(
        (),
        create_first_owner,
        CreateFirstOwner(email="op@example.com", password="x" * 12, name="Op", workspace_slug="op"),
    )
    assert owner.api_key is not None
    operator = alone.browser()
    operator.headers["Authorization"] = f"Bearer {owner.api_key.key}"
    await alone.service.outside.issuer.keys.active()
    assert await _states(operator) == ["active"]
    rotated = await operator.post("/auth/v1/instance/signing-keys:rotate")
    assert (rotated.status_code, rotated.json()["state"]) == (200, "next")
    again = await operator.post("/auth/v1/instance/signing-keys:rotate")
    assert again.json() == rotated.json()
    assert await _states(operator) == ["next", "active"]
    records = [each for each in await alone.emitted(RecordMade) if each.action == "signing_key.rotate"]
    assert [(each.scope, each.actor) for each in records] == [("instance", f"key:{owner.api_key.id}")]


async def test_nobody_else_rotates_or_lists_signing_keys(auth: AuthKit) -> None:
    browser = auth.browser()
    headers = await auth.bearer(await auth.register())
    calls: list[Callable[..., Any]] = [browser.post, browser.get]
    for call, path in zip(calls, ("signing-keys:rotate", "signing-keys"), strict=True):
        refused = await call(f"/auth/v1/instance/{path}", headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "permission_missing")


async def _states(operator: httpx.AsyncClient) -> list[str]:
    answer = await operator.get("/auth/v1/instance/signing-keys")
    assert answer.status_code == 200, answer.text
    return [key["state"] for key in answer.json()["items"]]
