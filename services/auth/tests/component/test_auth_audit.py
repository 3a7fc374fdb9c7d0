"""The audit log: an unbroken chain, whoever writes at once."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import httpx
import pytest

from kgl_auth.audit_verification import Verified, verify_chain
from kgl_auth.testing import PASSWORD, AuthKit, Person
from kgl_contracts.audit import RecordMade
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import Done, Reject
from kgl_servicekit.testing.polling import eventually

R = TypeVar("R")
C = TypeVar("C")


def made(scope: object, number: int = 0, **details: Any) -> RecordMade:
    return RecordMade(
        scope=str(scope),
        record_id=uuid4(),
        actor="user:x",
        action=f"test.{'even' if number % 2 == 0 else 'odd'}",
        target=f"thing:{number}",
        outcome="allowed",
        details=details,
        at=datetime.now(UTC),
    )


async def verified(auth: AuthKit, workspace: UUID) -> Verified:
    async def read(use_case: Callable[[Transaction, C], Awaitable[R]], command: C) -> R:
        return await auth.database.run(workspace, use_case, command)

    return await verify_chain(read, str(workspace))


async def test_the_chain_holds_under_twenty_writers_at_once(auth: AuthKit) -> None:
    workspace = uuid4()
    verdicts = await asyncio.gather(*(auth.record(made(workspace, n), workspace) for n in range(20)))
    assert verdicts == [Done()] * 20
    found = await verified(auth, workspace)
    assert (found.records, found.head.number, found.broken) == (20, 20, None)


async def test_whatever_json_is_in_a_record_the_chain_verifies_after_the_database_has_stored_it(auth: AuthKit) -> None:
    workspace = uuid4()
    odd: dict[str, Any] = {
        "n": 1e16,
        "f": 1.0,
        "big": 12345678901234567890,
        "tiny": 5e-324,
        "nul": "a\x00b",
        "z": {"é": [None, True]},
    }
    await auth.record(made(workspace, **odd), workspace)
    found = await verified(auth, workspace)
    assert (found.records, found.broken) == (1, None)

    async def stored(tx: Transaction, scope: str) -> Any:
        return await tx.fetchval("select record -> 'details' ->> 'nul' from audit_record where scope = $1", scope)

    assert await auth.database.run(workspace, stored, str(workspace)) == "a\ufffdb"


async def test_a_record_for_another_scope_than_its_events_workspace_is_rejected(auth: AuthKit) -> None:
    verdict = await auth.record(made(uuid4()), uuid4())
    assert isinstance(verdict, Reject)
    assert isinstance(await auth.record(made("instance"), uuid4()), Reject)
    assert isinstance(await auth.record(made(uuid4()), None), Reject)


@pytest.fixture(scope="module")
async def person(auth: AuthKit) -> Person:
    person = await auth.register()
    for number in range(6):
        await auth.record(made(person.workspace, number), person.workspace)
    return person


@pytest.fixture(scope="module")
async def client(auth: AuthKit, person: Person) -> httpx.AsyncClient:
    client = auth.browser()
    client.headers.update(await auth.bearer(person))
    return client


async def test_the_log_is_listed_newest_first_in_pages(client: httpx.AsyncClient) -> None:
    first = (await client.get("/auth/v1/audit", params={"limit": 4})).json()
    assert [entry["number"] for entry in first["items"]] == [6, 5, 4, 3]
    rest = (await client.get("/auth/v1/audit", params={"limit": 4, "cursor": first["next"]})).json()
    assert [entry["number"] for entry in rest["items"]] == [2, 1]
    assert rest["next"] is None
    assert first["items"][0]["prev_hash"] == first["items"][1]["hash"]


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({"action": "test.odd"}, [6, 4, 2]),
        ({"target": "thing:0"}, [1]),
        ({"actor": "user:x", "outcome": "denied"}, []),
        ({"at_gte": "2020-01-01T00:00:00Z", "at_lt": "2999-01-01T00:00:00Z"}, [6, 5, 4, 3, 2, 1]),
        ({"at_gte": "2999-01-01T00:00:00Z"}, []),
        ({"at_lt": "2020-01-01T00:00:00Z"}, []),
        ({"at_gte": "0002-01-01T00:00:00+14:00", "at_lt": "9998-12-31T23:59:59-14:00"}, [6, 5, 4, 3, 2, 1]),
    ],
)
async def test_the_log_is_filtered(client: httpx.AsyncClient, wanted: dict[str, str], numbers: list[int]) -> None:
    answer = await client.get("/auth/v1/audit", params=wanted)
    assert [entry["number"] for entry in answer.json()["items"]] == numbers


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00", "x"]
)
async def test_a_time_that_is_none_is_refused(client: httpx.AsyncClient, moment: str) -> None:
    assert (await client.get("/auth/v1/audit", params={"at_gte": moment})).status_code == 422


async def test_the_log_of_a_workspace_is_for_those_who_may_read_it(auth: AuthKit, person: Person) -> None:
    stranger = await auth.register()
    theirs = auth.browser()
    theirs.headers.update(await auth.bearer(stranger))
    assert (await theirs.get("/auth/v1/audit")).json()["items"] == []
    theirs.headers["Kgl-Workspace"] = str(person.workspace)
    assert (await theirs.get("/auth/v1/audit")).status_code == 403

    async def peek(tx: Transaction, scope: str) -> int:
        count: int = await tx.fetchval("select count(*) from audit_record where scope = $1", scope)
        return count

    assert await auth.database.run(stranger.workspace, peek, str(person.workspace)) == 0
    assert await auth.database.run((), peek, str(person.workspace)) == 0


async def test_what_people_do_arrives_in_the_log_by_the_bus(auth: AuthKit) -> None:
    person = await auth.register()
    headers = await auth.bearer(person)
    browser = auth.browser()
    page = await auth.login_page(browser)
    await auth.submit(browser, page, email=person.email, password="wrong password")
    await auth.submit(browser, page, email="s3cret typed in the wrong box", password="x")
    key = await browser.post("/auth/v1/keys", json={"name": "k", "permissions": ["graph:read"]}, headers=headers)
    await browser.delete(f"/auth/v1/keys/{key.json()['id']}", headers=headers)
    body = {"capabilities": ["extract"]}
    await browser.put("/auth/v1/modules/tagger", json=body, headers=headers)
    await browser.delete("/auth/v1/modules/tagger", headers=headers)
    await browser.patch(f"/auth/v1/workspaces/{person.workspace}", json={"name": "New"}, headers=headers)

    async def logged() -> list[str]:
        entries = (await browser.get("/auth/v1/audit", headers=headers)).json()["items"]
        actions = [entry["action"] for entry in reversed(entries)]
        return actions if "workspace.change" in actions else []

    work = asyncio.create_task(auth.service.work())
    try:
        actions = await eventually(logged, within=20)
        instance = await eventually(lambda: _instance(auth, person), within=20)
        assert await eventually(lambda: _ticked(auth), within=20)
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
    assert actions == [
        "workspace.create",
        "key.create",
        "key.revoke",
        "module.enable",
        "module.disable",
        "workspace.change",
    ]
    assert [(record["action"], record["outcome"]) for record in instance] == [
        ("user.register", "allowed"),
        ("session.login", "allowed"),
        ("session.login", "denied"),
    ]
    assert instance[1]["actor"] == f"user:{person.id}"


async def _ticked(auth: AuthKit) -> bool:
    """Whether the second's tick went out to the bus and came back."""

    async def read(tx: Transaction, _: None) -> bool:
        sql = "select true from identity_replica where key_id = 'clock' and (state->>'at')::timestamptz > $1"
        return bool(await tx.fetchval(sql, tx.now - timedelta(seconds=10)))

    return await auth.database.run((), read, None)


async def _instance(auth: AuthKit, person: Person) -> list[dict[str, Any]]:
    """What the log of the instance says of a person, once it is complete."""

    async def read(tx: Transaction, target: str) -> list[dict[str, Any]]:
        rows = await tx.fetch("select record from audit_record where scope = 'instance' order by number")
        assert "s3cret" not in str(rows)
        assert PASSWORD not in str(rows)
        return [row["record"] for row in rows if row["record"]["target"] == target]

    found = await auth.database.run((), read, f"user:{person.id}")
    return found if len(found) == 3 else []
