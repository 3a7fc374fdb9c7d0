"""The check that other services ask for, and what the callers learn about themselves."""

from uuid import uuid4

import pytest

from kgl_auth.testing import AuthKit, Person
from kgl_auth.use_cases.change_key import CreateKey, create_key
from kgl_servicekit.identity.permissions import INSTANCE_WORKSPACE, ROLES


@pytest.fixture(scope="module")
async def person(auth: AuthKit) -> Person:
    return await auth.register()


async def test_a_user_is_known_in_the_workspace_by_id_and_by_slug(auth: AuthKit, person: Person) -> None:
    bearer = await auth.bearer(person)
    for hint in (str(person.workspace), person.slug):
        answer = await auth.browser().get("/auth/v1/check", headers={**bearer, "Kgl-Workspace": hint})
        assert answer.status_code == 200
        checked = answer.json()
        assert checked["principal"] == f"user:{person.id}"
        assert checked["user_id"] == str(person.id)
        assert checked["workspace_id"] == str(person.workspace)
        assert set(checked["permissions"]) == ROLES["owner"]
        assert checked["session_active"] is True
        assert answer.headers["cache-control"] == "no-store"


async def test_without_a_workspace_a_user_has_no_permissions_of_one(auth: AuthKit, person: Person) -> None:
    bearer = {"Authorization": (await auth.bearer(person))["Authorization"]}
    checked = (await auth.browser().get("/auth/v1/check", headers=bearer)).json()
    assert checked["workspace_id"] is None
    assert checked["permissions"] == []


async def test_a_foreign_workspace_is_denied_as_one_that_does_not_exist(auth: AuthKit, person: Person) -> None:
    bearer, stranger = await auth.bearer(person), await auth.register()
    hints = [str(stranger.workspace), stranger.slug, str(uuid4()), "no-such-slug", str(uuid4().int)[:20]]
    for hint in hints:
        answer = await auth.browser().get("/auth/v1/check", headers={**bearer, "Kgl-Workspace": hint})
        assert (answer.status_code, answer.json()["code"]) == (403, "workspace_denied")


async def test_a_key_is_bound_to_its_workspace(auth: AuthKit, person: Person) -> None:
    bearer, stranger = await auth.bearer(person), await auth.register()
    body = {"name": "k", "permissions": ["graph:read"]}
    key = (await auth.browser().post("/auth/v1/keys", json=body, headers=bearer)).json()["key"]
    headers = {"Authorization": f"Bearer {key}"}
    for hint in (str(person.workspace), person.slug):
        answer = await auth.browser().get("/auth/v1/check", headers={**headers, "Kgl-Workspace": hint})
        assert answer.json()["workspace_id"] == str(person.workspace)
    for hint in (str(stranger.workspace), stranger.slug, "nowhere"):
        answer = await auth.browser().get("/auth/v1/check", headers={**headers, "Kgl-Workspace": hint})
        assert (answer.status_code, answer.json()["code"]) == (403, "workspace_mismatch")
    me = (await auth.browser().get("/auth/v1/me", headers=headers)).json()
    assert me["user"] is None
    assert [each["permissions"] for each in me["workspaces"]] == [["graph:read"]]


async def test_a_key_of_the_installation_works_in_the_workspace_that_it_names(auth: AuthKit, person: Person) -> None:
    command = CreateKey(
        workspace_id=INSTANCE_WORKSPACE,
        name="Reader",
        permissions=["modules:work"],
        own=ROLES["module"],
        module="reader",
    )
    key = await auth.database.run((), create_key, command)
    headers = {"Authorization": f"Bearer {key.key}"}
    checked = (await auth.browser().get("/auth/v1/check", headers=headers)).json()
    assert (checked["workspace_id"], checked["module"]) == (str(INSTANCE_WORKSPACE), "reader")
    for hint in (str(person.workspace), person.slug):
        answer = await auth.browser().get("/auth/v1/check", headers={**headers, "Kgl-Workspace": hint})
        assert answer.json()["workspace_id"] == str(person.workspace)
        assert answer.json()["permissions"] == ["modules:work"]
    for hint in (str(uuid4()), "nowhere"):
        answer = await auth.browser().get("/auth/v1/check", headers={**headers, "Kgl-Workspace": hint})
        assert (answer.status_code, answer.json()["code"]) == (403, "workspace_mismatch")
    me = (await auth.browser().get("/auth/v1/me", headers=headers)).json()
    assert (me["module"], me["workspaces"]) == ("reader", [])


async def test_the_cookie_reaches_the_workspaces_of_its_user_alone(auth: AuthKit, person: Person) -> None:
    browser, stranger = await auth.log_in(person), await auth.register()
    mine = await browser.get("/auth/v1/keys", headers={"Kgl-Workspace": person.slug})
    assert mine.status_code == 200
    foreign = await browser.get("/auth/v1/keys", headers={"Kgl-Workspace": stranger.slug})
    assert (foreign.status_code, foreign.json()["code"]) == (403, "workspace_denied")


@pytest.mark.parametrize("credential", ["Bearer x.y.z", "Bearer kgl_0123", "Basic eDp5", "Bearer", "Session nothing"])
async def test_what_is_no_credential_is_nobody(auth: AuthKit, credential: str) -> None:
    answer = await auth.browser().get("/auth/v1/check", headers={"Authorization": credential})
    assert answer.status_code == 401
    assert (await auth.browser().get("/auth/v1/check")).json()["code"] == "credential_missing"


async def test_the_cookie_stands_for_its_user_here_while_the_session_lives(auth: AuthKit, person: Person) -> None:
    browser = await auth.log_in(person)
    assert (await browser.get("/auth/v1/me")).json()["user"]["id"] == str(person.id)
    body = {"slug": f"by-cookie-{person.slug}", "name": "x"}
    forged = await browser.post("/auth/v1/workspaces", json=body, headers={"Origin": "https://evil.example"})
    assert (forged.status_code, forged.json()["code"]) == (403, "origin_refused")
    cookie = browser.cookies["kgl_session"]
    await browser.post("/auth/v1/logout", headers={"Origin": "http://localhost:8080"})
    browser.cookies.set("kgl_session", cookie)
    assert (await browser.get("/auth/v1/me")).json()["code"] == "session_ended"


async def test_a_route_that_needs_a_workspace_tells_its_user_which_there_are(auth: AuthKit, person: Person) -> None:
    bearer = {"Authorization": (await auth.bearer(person))["Authorization"]}
    answer = await auth.browser().get("/auth/v1/keys", headers=bearer)
    assert (answer.status_code, answer.json()["code"]) == (400, "workspace_required")
    assert [choice["slug"] for choice in answer.json()["choices"]] == [person.slug]
