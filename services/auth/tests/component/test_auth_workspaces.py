"""Workspaces and their members."""

import asyncio
import base64
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest

from kgl_auth.testing import AuthKit, Person
from kgl_contracts.identity import MembershipChanged, WorkspaceChanged


@pytest.fixture(scope="module")
async def owner(auth: AuthKit) -> Person:
    return await auth.register("Owner")


@pytest.fixture(scope="module")
async def client(auth: AuthKit, owner: Person) -> httpx.AsyncClient:
    """The owner's client; the addresses name the workspace, no header does."""
    return await client_of(auth, owner)


async def client_of(auth: AuthKit, person: Person) -> httpx.AsyncClient:
    client = auth.browser()
    client.headers["Authorization"] = (await auth.bearer(person))["Authorization"]
    return client


async def new_workspace(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.post("/auth/v1/workspaces", json={"slug": f"w-{uuid4().hex[:8]}", "name": "Lab"})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def put(client: httpx.AsyncClient, workspace: str, user: Any, *roles: str) -> httpx.Response:
    return await client.put(f"/auth/v1/workspaces/{workspace}/members/{user}", json={"roles": list(roles)})


async def test_a_workspace_is_made_read_listed_and_renamed(auth: AuthKit, client: httpx.AsyncClient) -> None:
    made = await new_workspace(client)
    address = f"/auth/v1/workspaces/{made['id']}"
    read = await client.get(address)
    assert read.json() == made
    listed = (await client.get("/auth/v1/workspaces")).json()["items"]
    assert made["slug"] in [each["slug"] for each in listed]
    changed = await client.patch(address, json={"name": "New name"}, headers={"If-Match": read.headers["etag"]})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["name"], changed.json()["slug"], changed.json()["version"]) == ("New name", made["slug"], 2)
    assert (await client.get(address)).headers["etag"] == changed.headers["etag"]
    told = [event for event in await auth.emitted(WorkspaceChanged) if str(event.workspace_id) == made["id"]]
    assert [event.name for event in told] == ["Lab", "New name"]


async def test_a_change_of_what_has_changed_meanwhile_is_refused(client: httpx.AsyncClient) -> None:
    made = await new_workspace(client)
    address = f"/auth/v1/workspaces/{made['id']}"
    etag = (await client.get(address)).headers["etag"]
    answers = await asyncio.gather(
        *(client.patch(address, json={"name": f"N{n}"}, headers={"If-Match": etag}) for n in range(4))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412]
    assert (await client.get(address, headers={"If-None-Match": etag})).status_code == 200


async def test_slugs_are_unique_and_never_look_like_ids(client: httpx.AsyncClient) -> None:
    first, second = await new_workspace(client), await new_workspace(client)
    taken = await client.post("/auth/v1/workspaces", json={"slug": first["slug"], "name": "Again"})
    assert (taken.status_code, taken.json()["code"]) == (409, "slug_taken")
    moved = await client.patch(f"/auth/v1/workspaces/{second['id']}", json={"slug": first["slug"]})
    assert (moved.status_code, moved.json()["code"]) == (409, "slug_taken")
    for slug in (str(uuid4()), uuid4().hex, "Upper", "-x", "a b", ""):
        assert (await client.post("/auth/v1/workspaces", json={"slug": slug, "name": "x"})).status_code == 422
    assert (await client.patch(f"/auth/v1/workspaces/{first['id']}", json={})).status_code == 422


async def test_a_foreign_workspace_looks_like_none_at_all(auth: AuthKit, client: httpx.AsyncClient) -> None:
    made = await new_workspace(client)
    stranger = await client_of(auth, await auth.register("Stranger"))
    for workspace in (made["id"], str(uuid4())):
        address = f"/auth/v1/workspaces/{workspace}"
        answers = [
            await stranger.get(address),
            await stranger.patch(address, json={"name": "mine"}),
            await stranger.get(f"{address}/members"),
            await stranger.get(f"{address}/members/{uuid4()}"),
            await put(stranger, workspace, uuid4(), "owner"),
            await stranger.delete(f"{address}/members/{uuid4()}"),
        ]
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(404, "not_found")}
    assert (await auth.browser().get(f"/auth/v1/workspaces/{made['id']}")).status_code == 401


async def test_lists_come_in_pages(client: httpx.AsyncClient) -> None:
    for _ in range(3):
        await new_workspace(client)
    whole = [each["slug"] for each in (await client.get("/auth/v1/workspaces")).json()["items"]]
    slugs, cursor = [], None
    while True:
        part = (
            await client.get("/auth/v1/workspaces", params={"limit": 2, **({"cursor": cursor} if cursor else {})})
        ).json()
        slugs += [each["slug"] for each in part["items"]]
        if (cursor := part["next"]) is None:
            break
    assert slugs == whole == sorted(whole)


@pytest.mark.parametrize("position", [1, -1, 2**70, "", "a\x00b", "no id", [], {"a": 1}, True, 1.5])
async def test_a_cursor_that_somebody_made_up_is_an_error_of_theirs(
    auth: AuthKit, client: httpx.AsyncClient, owner: Person, position: Any
) -> None:
    theirs = {"Kgl-Workspace": str(owner.workspace)}
    cursor = base64.urlsafe_b64encode(orjson.dumps(position) if position != 2**70 else b"%d" % 2**70).decode()
    paths = ("workspaces", f"workspaces/{owner.workspace}/members", "keys", "modules", "audit")
    answers = [await client.get(f"/auth/v1/{path}", params={"cursor": cursor}, headers=theirs) for path in paths]
    assert {answer.status_code for answer in answers} <= {200, 400}
    assert sum(answer.status_code == 400 for answer in answers) >= 1


async def test_a_member_is_added_changed_and_removed_and_all_services_hear_of_it(
    auth: AuthKit, client: httpx.AsyncClient
) -> None:
    made, user = await new_workspace(client), await auth.register("Member")
    added = await put(client, made["id"], user.id, "viewer")
    assert added.status_code == 200, added.text
    theirs = await client_of(auth, user)
    address = f"/auth/v1/workspaces/{made['id']}"
    assert (await theirs.get(address)).status_code == 200
    refused = await theirs.patch(address, json={"name": "x"})
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_missing")
    listed = (await client.get(f"{address}/members")).json()["items"]
    assert str(user.id) in [member["user_id"] for member in listed]
    one = await client.get(f"{address}/members/{user.id}")
    assert one.headers["etag"] == added.headers["etag"]
    stale = await client.put(
        f"{address}/members/{user.id}", json={"roles": ["editor"]}, headers={"If-Match": '"other"'}
    )
    assert stale.status_code == 412
    gone = await client.delete(f"{address}/members/{user.id}", headers={"If-Match": '"other"'})
    assert gone.status_code == 412
    assert (await put(client, made["id"], user.id, "editor", "reviewer")).json()["roles"] == ["editor", "reviewer"]
    assert (await client.delete(f"{address}/members/{user.id}")).status_code == 204
    assert (await theirs.get(address)).status_code == 404
    told = [event for event in await auth.emitted(MembershipChanged) if event.user_id == user.id][1:]
    assert [(event.roles, event.deleted) for event in told] == [
        (("viewer",), False),
        (("editor", "reviewer"), False),
        ((), True),
    ]
    assert told[2].permissions == ()


async def test_what_is_no_change_is_told_to_nobody(auth: AuthKit, client: httpx.AsyncClient) -> None:
    made, user = await new_workspace(client), await auth.register()
    address = f"/auth/v1/workspaces/{made['id']}"
    await put(client, made["id"], user.id, "viewer")
    before = len(await auth.emitted(MembershipChanged)), len(await auth.emitted(WorkspaceChanged))
    assert (await put(client, made["id"], user.id, "viewer")).status_code == 200
    assert (await client.patch(address, json={"name": made["name"]})).json()["version"] == 1
    assert (await client.delete(f"{address}/members/{uuid4()}")).status_code == 204
    assert before == (len(await auth.emitted(MembershipChanged)), len(await auth.emitted(WorkspaceChanged)))


async def test_the_last_owner_stays(auth: AuthKit, client: httpx.AsyncClient, owner: Person) -> None:
    made, other = await new_workspace(client), await auth.register()
    address = f"/auth/v1/workspaces/{made['id']}/members"
    for answer in (await client.delete(f"{address}/{owner.id}"), await put(client, made["id"], owner.id, "admin")):
        assert (answer.status_code, answer.json()["code"]) == (409, "last_owner")
    assert (await put(client, made["id"], other.id, "owner")).status_code == 200
    assert (await client.delete(f"{address}/{owner.id}")).status_code == 204


async def test_of_two_owners_who_leave_at_once_one_stays(
    auth: AuthKit, client: httpx.AsyncClient, owner: Person
) -> None:
    other = await auth.register()
    theirs = await client_of(auth, other)
    for _ in range(5):
        made = await new_workspace(client)
        assert (await put(client, made["id"], other.id, "owner")).status_code == 200
        address = f"/auth/v1/workspaces/{made['id']}/members"
        answers = await asyncio.gather(client.delete(f"{address}/{owner.id}"), theirs.delete(f"{address}/{other.id}"))
        assert sorted(answer.status_code for answer in answers) == [204, 409]


async def test_nobody_gives_or_takes_more_than_they_have(
    auth: AuthKit, client: httpx.AsyncClient, owner: Person
) -> None:
    made, admin, third = await new_workspace(client), await auth.register(), await auth.register()
    await put(client, made["id"], admin.id, "admin")
    theirs = await client_of(auth, admin)
    refusals = [
        await put(theirs, made["id"], admin.id, "owner"),
        await put(theirs, made["id"], third.id, "owner"),
        await put(theirs, made["id"], owner.id, "viewer"),
        await theirs.delete(f"/auth/v1/workspaces/{made['id']}/members/{owner.id}"),
    ]
    for answer in refusals:
        assert (answer.status_code, answer.json()["code"]) == (403, "permissions_not_yours")
        assert answer.json()["missing"] == ["workspace:manage"]
    assert (await put(theirs, made["id"], third.id, "editor")).status_code == 200


async def test_a_member_may_leave_but_not_send_others_away(auth: AuthKit, client: httpx.AsyncClient) -> None:
    made, first, second = await new_workspace(client), await auth.register(), await auth.register()
    for person in (first, second):
        await put(client, made["id"], person.id, "viewer")
    theirs = await client_of(auth, first)
    address = f"/auth/v1/workspaces/{made['id']}/members"
    assert (await theirs.delete(f"{address}/{second.id}")).status_code == 403
    assert (await put(theirs, made["id"], second.id, "viewer")).status_code == 403
    assert (await theirs.delete(f"{address}/{first.id}")).status_code == 204


async def test_only_known_users_and_roles_make_a_membership(client: httpx.AsyncClient, owner: Person) -> None:
    made = await new_workspace(client)
    unknown = await put(client, made["id"], uuid4(), "viewer")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "user_unknown")
    for roles in (["king"], ["operator"], []):
        assert (await put(client, made["id"], owner.id, *roles)).status_code == 422


async def test_the_roles_are_listed_with_what_they_allow(client: httpx.AsyncClient) -> None:
    roles = {role["name"]: set(role["permissions"]) for role in (await client.get("/auth/v1/roles")).json()["items"]}
    assert set(roles) == {"owner", "admin", "editor", "reviewer", "viewer", "module"}
    assert roles["viewer"] < roles["editor"] < roles["admin"] < roles["owner"]


async def test_a_key_makes_no_workspace_and_sees_its_own_alone(auth: AuthKit, client: httpx.AsyncClient) -> None:
    mine, other = await new_workspace(client), await new_workspace(client)
    body = {"name": "k", "permissions": ["workspace:read", "members:manage"]}
    made = await client.post("/auth/v1/keys", json=body, headers={"Kgl-Workspace": mine["id"]})
    key = auth.browser()
    key.headers["Authorization"] = f"Bearer {made.json()['key']}"
    assert (await key.post("/auth/v1/workspaces", json={"slug": "by-key", "name": "x"})).status_code == 403
    assert (await key.get(f"/auth/v1/workspaces/{mine['id']}")).status_code == 200
    assert (await key.get(f"/auth/v1/workspaces/{other['id']}")).status_code == 404
