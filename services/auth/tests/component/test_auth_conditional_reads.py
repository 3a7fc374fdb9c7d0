"""304 is an answer too: only for those who could have had the 200, and only for the very same answer."""

import httpx
import pytest

from kgl_auth.testing import AuthKit, Person


@pytest.fixture
async def owner(alone: AuthKit) -> Person:
    return await alone.register("Owner")


@pytest.fixture
async def stranger(alone: AuthKit) -> Person:
    return await alone.register("Stranger")


async def client_as(auth: AuthKit, person: Person, workspace: Person | None = None) -> httpx.AsyncClient:
    client = auth.browser()
    client.headers.update(await auth.bearer(person, (workspace or person).workspace))
    return client


async def test_a_list_of_one_workspace_is_not_taken_for_that_of_another(
    alone: AuthKit, owner: Person, stranger: Person
) -> None:
    client, other = await client_as(alone, owner), await client_as(alone, stranger)
    made = await client.post("/auth/v1/keys", json={"name": "k", "permissions": ["graph:read"]})
    assert made.status_code == 201
    for path in ("/auth/v1/keys", "/auth/v1/me", "/auth/v1/workspaces"):
        first = await client.get(path)
        known = {"If-None-Match": first.headers["etag"]}
        assert (await client.get(path, headers=known)).status_code == 304
        theirs = await other.get(path, headers=known)
        assert theirs.status_code == 200, path
        assert theirs.headers["etag"] != first.headers["etag"]
        assert {"Kgl-Workspace", "Authorization"} <= {name.strip() for name in theirs.headers["vary"].split(",")}


@pytest.mark.parametrize("tag", ["theirs", "*"])
async def test_a_resource_of_another_workspace_is_not_there_whatever_tag_one_has(
    alone: AuthKit, owner: Person, stranger: Person, tag: str
) -> None:
    client, other = await client_as(alone, owner), await client_as(alone, stranger)
    key = (await client.post("/auth/v1/keys", json={"name": "k", "permissions": ["graph:read"]})).json()["id"]
    await client.put("/auth/v1/modules/tagger", json={"capabilities": ["extract"]})
    for path in (
        f"/auth/v1/keys/{key}",
        "/auth/v1/modules/tagger",
        f"/auth/v1/workspaces/{owner.workspace}",
        f"/auth/v1/workspaces/{owner.workspace}/members/{owner.id}",
    ):
        first = await client.get(path)
        assert first.status_code == 200, path
        known = {"If-None-Match": first.headers["etag"] if tag == "theirs" else "*"}
        assert (await client.get(path, headers=known)).status_code == 304
        assert (await other.get(path, headers=known)).status_code == 404, path


async def test_who_has_lost_the_right_to_read_gets_no_304_for_what_they_once_read(
    alone: AuthKit, owner: Person, stranger: Person
) -> None:
    client = await client_as(alone, owner)
    member = f"/auth/v1/workspaces/{owner.workspace}/members/{stranger.id}"
    assert (await client.put(member, json={"roles": ["admin"]})).status_code == 200
    guest = await client_as(alone, stranger, owner)
    tags = {}
    for path in ("/auth/v1/keys", "/auth/v1/audit", f"/auth/v1/workspaces/{owner.workspace}"):
        tags[path] = (await guest.get(path)).headers["etag"]
        assert (await guest.get(path, headers={"If-None-Match": tags[path]})).status_code == 304
    assert (await client.delete(member)).status_code == 204
    for path, tag in tags.items():
        refused = await guest.get(path, headers={"If-None-Match": tag})
        assert refused.status_code in (403, 404), path
