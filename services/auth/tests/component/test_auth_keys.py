"""API keys: made once, hashed, limited to their maker's permissions, revoked everywhere."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from kgl_auth.testing import AuthKit, Person
from kgl_contracts.identity import KeyChanged
from kgl_servicekit.database.transaction import Transaction


@pytest.fixture(scope="module")
async def owner(auth: AuthKit) -> Person:
    return await auth.register("Owner")


@pytest.fixture(scope="module")
async def client(auth: AuthKit, owner: Person) -> httpx.AsyncClient:
    client = auth.browser()
    client.headers.update(await auth.bearer(owner))
    return client


async def make(client: httpx.AsyncClient, *permissions: str, **more: Any) -> dict[str, Any]:
    answer = await client.post("/auth/v1/keys", json={"name": "CI", "permissions": list(permissions), **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def check(auth: AuthKit, key: str) -> httpx.Response:
    return await auth.browser().get("/auth/v1/check", headers={"Authorization": f"Bearer {key}"})


async def told(auth: AuthKit, key_id: str) -> list[KeyChanged]:
    return [event for event in await auth.emitted(KeyChanged) if event.api_key_id == key_id]


async def test_a_key_is_shown_once_works_and_is_revoked_everywhere(
    auth: AuthKit, client: httpx.AsyncClient, owner: Person
) -> None:
    made = await make(client, "documents:read", "graph:read")
    secret = made["key"].split("_", 2)[2]
    assert len(secret) == 43
    checked = (await check(auth, made["key"])).json()
    assert checked["principal"] == f"key:{made['id']}"
    assert checked["workspace_id"] == str(owner.workspace)
    assert checked["permissions"] == ["documents:read", "graph:read"]
    listed, read = await client.get("/auth/v1/keys"), await client.get(f"/auth/v1/keys/{made['id']}")
    assert read.json() in listed.json()["items"]
    assert secret not in listed.text + read.text
    assert (await client.delete(f"/auth/v1/keys/{made['id']}")).status_code == 204
    answer = await check(auth, made["key"])
    assert (answer.status_code, answer.json()["code"]) == (401, "key_invalid")
    assert (await client.delete(f"/auth/v1/keys/{made['id']}")).status_code == 204
    events = await told(auth, made["id"])
    assert [event.revoked for event in events] == [False, True]
    assert secret not in str(events)


async def test_the_secret_stands_in_no_table(auth: AuthKit, client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": str(uuid4())}
    body = {"name": "once", "permissions": ["graph:read"]}
    made = (await client.post("/auth/v1/keys", json=body, headers=headers)).json()
    again = await client.post("/auth/v1/keys", json=body, headers=headers)
    assert (again.status_code, again.json()["code"]) == (409, "answer_not_kept")

    async def everything(tx: Transaction, _: None) -> str:
        tables = ("api_key", "outbox_log", "idempotency_key", "audit_record")
        rows = [row for table in tables for row in await tx.fetch(f"select {table}::text as text from {table}")]
        kept = [row["body"] for row in await tx.fetch("select body from idempotency_key")]
        data = [row["data"] for row in await tx.fetch("select data from outbox_log")]
        return str(rows) + str(kept) + str(data)

    assert made["key"].split("_", 2)[2] not in await auth.database.run((), everything, None)


async def test_a_key_has_no_more_than_its_maker(auth: AuthKit, client: httpx.AsyncClient) -> None:
    small = await make(client, "keys:manage", "graph:read")
    key = auth.browser()
    key.headers["Authorization"] = f"Bearer {small['key']}"
    answer = await key.post("/auth/v1/keys", json={"name": "x", "permissions": ["graph:read", "graph:write"]})
    assert (answer.status_code, answer.json()["code"]) == (403, "permissions_not_yours")
    assert answer.json()["missing"] == ["graph:write"]
    child = await make(key, "graph:read")
    assert child["created_by"] == f"key:{small['id']}"


@pytest.mark.parametrize(
    "change",
    [
        {"permissions": []},
        {"permissions": ["graph:everything"]},
        {"permissions": ["instance:*"]},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": "2999-01-01T00:00:00"},
        {"module": "Not A Name"},
        {"name": ""},
        {"secret": "x"},
    ],
)
async def test_a_key_that_makes_no_sense_is_refused(client: httpx.AsyncClient, change: dict[str, Any]) -> None:
    body = {"name": "x", "permissions": ["graph:read"], **change}
    assert (await client.post("/auth/v1/keys", json=body)).status_code == 422


async def test_a_key_ends_at_its_time_and_says_for_which_module_it_speaks(
    auth: AuthKit, client: httpx.AsyncClient
) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    made = await make(client, "modules:work", expires_at=soon, module="tagger")
    checked = (await check(auth, made["key"])).json()
    assert checked["module"] == "tagger"
    assert datetime.fromisoformat(checked["expires_at"]) == datetime.fromisoformat(soon)
    assert [event.module for event in await told(auth, made["id"])] == ["tagger"]

    async def an_hour_later(tx: Transaction, key_id: str) -> None:
        await tx.execute("update api_key set expires_at = now() where id = $1", key_id)

    await auth.database.run((), an_hour_later, made["id"])
    assert (await check(auth, made["key"])).status_code == 401


async def test_a_wrong_secret_is_as_unknown_as_a_wrong_id(auth: AuthKit, client: httpx.AsyncClient) -> None:
    made = await make(client, "graph:read")
    head, key_id, secret = made["key"].split("_", 2)
    wrong = [f"{head}_{key_id}_{secret[:-1]}{'A' if secret[-1] != 'A' else 'B'}", f"{head}_{'0' * 16}_{secret}"]
    answers = [await check(auth, key) for key in wrong]
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(401, "key_invalid")}


async def test_keys_of_others_are_neither_read_nor_revoked(auth: AuthKit, client: httpx.AsyncClient) -> None:
    made = await make(client, "graph:read")
    stranger = auth.browser()
    stranger.headers.update(await auth.bearer(await auth.register()))
    for key_id in (made["id"], "0" * 16):
        assert (await stranger.get(f"/auth/v1/keys/{key_id}")).status_code == 404
        assert (await stranger.delete(f"/auth/v1/keys/{key_id}")).status_code == 404
    assert (await check(auth, made["key"])).status_code == 200


async def test_a_viewer_has_nothing_to_do_with_keys(auth: AuthKit, client: httpx.AsyncClient, owner: Person) -> None:
    viewer = await auth.register()
    await client.put(f"/auth/v1/workspaces/{owner.workspace}/members/{viewer.id}", json={"roles": ["viewer"]})
    theirs = auth.browser()
    theirs.headers.update(await auth.bearer(viewer, owner.workspace))
    for answer in (
        await theirs.get("/auth/v1/keys"),
        await theirs.post("/auth/v1/keys", json={"name": "x", "permissions": ["graph:read"]}),
        await theirs.delete(f"/auth/v1/keys/{'0' * 16}"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_missing")
