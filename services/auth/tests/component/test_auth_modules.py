"""The registry of modules."""

from typing import Any
from uuid import UUID

import httpx
import pytest

from kgl_auth.testing import AuthKit
from kgl_contracts.identity import ModuleChanged

TAGGER = {"capabilities": ["summarise", "extract"], "mode": "optional", "deadline_seconds": 60}


@pytest.fixture(scope="module")
async def client(auth: AuthKit) -> httpx.AsyncClient:
    client = auth.browser()
    client.headers.update(await auth.bearer(await auth.register()))
    return client


async def test_a_module_is_enabled_changed_and_disabled_and_all_services_hear_of_it(
    auth: AuthKit, client: httpx.AsyncClient
) -> None:
    workspace = UUID(client.headers["Kgl-Workspace"])
    first = await client.put("/auth/v1/modules/tagger", json=TAGGER)
    assert first.status_code == 200, first.text
    assert first.json()["capabilities"] == ["extract", "summarise"]
    second = await client.put(
        "/auth/v1/modules/tagger",
        json={**TAGGER, "mode": "required"},
        headers={"If-Match": first.headers["etag"]},
    )
    assert (second.json()["mode"], second.json()["version"]) == ("required", 2)
    read = await client.get("/auth/v1/modules/tagger")
    assert (await client.get("/auth/v1/modules")).json()["items"] == [read.json()] == [second.json()]
    stale = await client.put("/auth/v1/modules/tagger", json=TAGGER, headers={"If-Match": first.headers["etag"]})
    assert stale.status_code == 412
    gone = await client.delete("/auth/v1/modules/tagger", headers={"If-Match": first.headers["etag"]})
    assert gone.status_code == 412
    assert (await client.delete("/auth/v1/modules/tagger")).status_code == 204
    assert (await client.get("/auth/v1/modules/tagger")).status_code == 404
    assert (await client.delete("/auth/v1/modules/tagger")).status_code == 404
    told = [
        (event.mode, event.deleted) for event in await auth.emitted(ModuleChanged) if event.workspace_id == workspace
    ]
    assert told == [("optional", False), ("required", False), ("required", True)]


async def test_a_module_that_was_expected_and_is_not_there_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.put("/auth/v1/modules/new-one", json=TAGGER, headers={"If-Match": "*"})
    assert answer.status_code == 412


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tagger", {"capabilities": []}),
        ("tagger", {"capabilities": ["fly"]}),
        ("tagger", {"mode": "sometimes"}),
        ("tagger", {"deadline_seconds": 0}),
        ("Tagger", {}),
    ],
)
async def test_a_module_needs_a_name_and_something_to_do(
    client: httpx.AsyncClient, name: str, change: dict[str, Any]
) -> None:
    assert (await client.put(f"/auth/v1/modules/{name}", json={**TAGGER, **change})).status_code == 422


async def test_workspaces_do_not_see_each_others_modules(auth: AuthKit, client: httpx.AsyncClient) -> None:
    await client.put("/auth/v1/modules/mine", json=TAGGER)
    other = auth.browser()
    other.headers.update(await auth.bearer(await auth.register()))
    assert (await other.get("/auth/v1/modules")).json()["items"] == []
    assert (await other.get("/auth/v1/modules/mine")).status_code == 404
    assert (await other.delete("/auth/v1/modules/mine")).status_code == 404
    assert (await client.get("/auth/v1/modules/mine")).status_code == 200
