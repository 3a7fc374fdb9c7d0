"""Keys that processes share, and rows that are of no use any more."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from kgl_auth.bootstrap import build
from kgl_auth.settings import AuthSettings
from kgl_auth.stores.key_ring import KeyRing
from kgl_auth.testing import PUBLIC_URL, AuthKit
from kgl_auth.use_cases.delete_expired import delete_expired
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.settings import NotConfigured


async def test_processes_that_start_at_once_sign_with_one_key(alone: AuthKit) -> None:
    rings = [KeyRing(alone.database) for _ in range(4)]
    keys = await asyncio.gather(*(ring.active() for ring in rings))
    assert len({key.kid for key in keys}) == 1
    documents = [await ring.jwks() for ring in rings]
    assert [[key["kid"] for key in document["keys"]] for document in documents] == [[keys[0].kid]] * 4


async def test_a_ring_keeps_the_keys_it_knows_when_it_reads_them_again(auth: AuthKit) -> None:
    at = datetime.now(UTC)
    ring = KeyRing(auth.database, lambda: at)
    key = await ring.active()
    known = await ring.key(key.kid)
    at += timedelta(minutes=1)
    assert await ring.key(key.kid) is known


async def test_what_ended_a_day_ago_is_deleted_and_nothing_else(alone: AuthKit) -> None:
    old, new = await alone.log_in(await alone.register()), None

    async def two_days_pass(tx: Transaction, _: None) -> None:
        for table, column in (("login_session", "expires_at"), ("browser_session", "expires_at")):
            await tx.execute(f"update {table} set {column} = now() - interval '2 days'")
        await tx.execute("update attempt_counter set started_at = now() - interval '2 days'")

    await alone.database.run((), two_days_pass, None)
    new = await alone.log_in(await alone.register())

    async def rows(tx: Transaction, _: None) -> list[int]:
        tables = ("login_session", "authorization_code", "refresh_token", "browser_session")
        return [await tx.fetchval(f"select count(*) from {table}") for table in tables]

    assert await alone.database.run((), rows, None) == [2, 2, 2, 2]
    assert await alone.database.run((), delete_expired, None) > 0
    assert await alone.database.run((), delete_expired, None) == 0
    assert await alone.database.run((), rows, None) == [1, 1, 1, 1]
    await alone.access_token(new)
    assert (await old.post("/auth/v1/token", headers={"Origin": PUBLIC_URL})).status_code == 401


async def test_an_issuer_that_nobody_can_ask_is_refused_at_the_start() -> None:
    settings = AuthSettings(
        env="test", database_url="postgresql://x", bus_url="postgresql://x", issuer="https://other.example"
    )
    with pytest.raises(NotConfigured, match="KGL_ISSUER"):
        build(settings, MemoryBus())


async def test_the_description_names_every_operation_once(auth: AuthKit) -> None:
    document = (await auth.browser().get("/auth/v1/openapi.json")).json()
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names)) > 30
