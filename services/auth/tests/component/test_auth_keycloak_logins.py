"""People whom Keycloak vouches for: at login and at first sight."""

import asyncio
import time
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest

from kgl_auth.db import sessions
from kgl_auth.testing import PASSWORD, PUBLIC_URL, Person
from kgl_auth.testing_fake_keycloak import FakeKeycloak
from kgl_auth.testing_keycloak import KeycloakKit
from kgl_servicekit.database.transaction import Transaction

Kit = KeycloakKit[FakeKeycloak]
ORIGIN = {"Origin": PUBLIC_URL}


async def test_a_first_login_makes_the_user_with_a_workspace_and_later_ones_take_over_name_and_address(
    keycloak: Kit,
) -> None:
    name = f"Grace Hopper {uuid4().hex[:6]}"
    slug = name.lower().replace(" ", "-")
    person = await keycloak.newcomer(name)
    seen = (await keycloak.me(await keycloak.access_token(await keycloak.log_in(person)))).json()
    assert (seen["user"]["id"], seen["user"]["email"], seen["user"]["name"]) == (
        str(person.id),
        person.email,
        name,
    )
    assert [(each["slug"], each["roles"]) for each in seen["workspaces"]] == [(slug, ["owner"])]
    user = keycloak.realm.users[person.id]
    user.name, user.email = "Rear Admiral\n Hopper", f"Grace@{slug}.example"
    again = (
        await keycloak.me(
            await keycloak.access_token(await keycloak.log_in(Person(person.id, user.email, person.id, "")))
        )
    ).json()
    assert (again["user"]["email"], again["user"]["name"]) == (f"grace@{slug}.example", "Rear Admiral Hopper")
    assert [each["slug"] for each in again["workspaces"]] == [slug]


async def test_an_address_that_somebody_had_before_gives_no_access_to_what_was_theirs(keycloak: Kit) -> None:
    person = await keycloak.newcomer()
    before = (await keycloak.me(await keycloak.access_token(await keycloak.log_in(person)))).json()["workspaces"]
    await keycloak.realm.delete(person.id)
    second = await keycloak.realm.create_user(person.email, "Ada Again", PASSWORD)
    seen = (
        await keycloak.me(await keycloak.access_token(await keycloak.log_in(Person(second, person.email, second, ""))))
    ).json()
    assert seen["user"]["id"] == str(second)
    assert seen["user"]["email"] == person.email
    assert not {each["id"] for each in seen["workspaces"]} & {each["id"] for each in before}


async def test_a_session_of_another_client_is_looked_up_once_and_known_from_then_on(keycloak: Kit) -> None:
    person = await keycloak.newcomer()
    token = await keycloak.realm.elsewhere(person.id)
    first = await keycloak.me(token)
    assert first.status_code == 200, first.text
    assert [each["roles"] for each in first.json()["workspaces"]] == [["owner"]]
    keycloak.realm.asked.clear()
    keycloak.realm.out = True
    assert (await keycloak.me(token)).status_code == 200
    assert keycloak.realm.asked == []


async def test_many_first_requests_at_once_make_one_user_and_one_workspace(keycloak: Kit) -> None:
    person = await keycloak.newcomer()
    token = await keycloak.realm.elsewhere(person.id)
    answers = await asyncio.gather(*(keycloak.me(token) for _ in range(6)))
    assert [answer.status_code for answer in answers] == [200] * 6
    assert {len(answer.json()["workspaces"]) for answer in answers} == {1}


@pytest.mark.parametrize("how", ["disabled", "deleted", "logged out", "no session", "another's"])
async def test_a_session_that_does_not_go_on_at_keycloak_is_refused_at_first_sight(keycloak: Kit, how: str) -> None:
    person, other = await keycloak.newcomer(), await keycloak.newcomer()
    token = await keycloak.realm.elsewhere(person.id)
    if how == "disabled":
        await keycloak.realm.disable(person.id)
    elif how == "deleted":
        await keycloak.realm.delete(person.id)
    elif how == "logged out":
        await keycloak.realm.log_out_everywhere(person.id)
    elif how == "no session":
        token = keycloak.realm.token(person.id, None)
    else:
        token = keycloak.realm.token(other.id, next(iter(keycloak.realm.sessions)))
    answer = await keycloak.me(token)
    assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "http://localhost:8080/realms/other"},
        {"aud": "account"},
        {"typ": "ID", "aud": ["kgl-auth", "kgl"]},
        {"typ": "Refresh"},
        {"exp": int(time.time()) - 5, "iat": int(time.time()) - 400},
    ],
)
async def test_what_is_no_access_token_of_this_realm_for_us_is_refused(
    keycloak: Kit, claims: dict[str, object]
) -> None:
    person = await keycloak.newcomer()
    answer = await keycloak.me(await keycloak.realm.elsewhere(person.id, **claims))
    assert answer.status_code == 401
    assert answer.json()["code"] in {"token_invalid", "token_expired"}


async def test_twins_queue_so_that_keycloak_sees_each_refresh_token_once(keycloak: Kit) -> None:
    browser = await keycloak.log_in(await keycloak.newcomer())
    answers = await asyncio.gather(*(browser.post("/auth/v1/token", headers=ORIGIN) for _ in range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4
    await keycloak.access_token(browser)


async def test_a_turn_that_its_process_left_is_over_after_a_while(keycloak: Kit) -> None:
    browser = await keycloak.log_in(await keycloak.newcomer())

    async def leave(tx: Transaction, cookie: str) -> None:
        assert await sessions.take_turn(tx, (cookie, timedelta(seconds=1)))
        assert not await sessions.take_turn(tx, (cookie, timedelta(seconds=1)))

    await keycloak.database.run((), leave, browser.cookies["kgl_session"])
    await keycloak.access_token(browser)


async def test_a_second_login_in_the_same_browser_goes_on_in_the_session_that_keycloak_has(keycloak: Kit) -> None:
    person, browser = await keycloak.newcomer(), keycloak.browser()
    await keycloak.log_in(person, browser)
    first, cookie = await keycloak.sid_of(browser), browser.cookies["kgl_session"]
    await keycloak.log_in(person, browser)
    assert await keycloak.sid_of(browser) == first
    assert browser.cookies["kgl_session"] != cookie
    assert (await keycloak.me(await keycloak.access_token(browser))).status_code == 200
    browser.cookies.set("kgl_session", cookie)
    assert (await browser.post("/auth/v1/token", headers=ORIGIN)).status_code == 401


async def test_a_refused_refresh_logs_the_browser_out_and_a_new_login_goes_on(keycloak: Kit) -> None:
    person, browser = await keycloak.newcomer(), keycloak.browser()
    await keycloak.log_in(person, browser)
    keycloak.realm.instead["/token"] = httpx.Response(400, json={"error": "invalid_grant"})
    answer = await browser.post("/auth/v1/token", headers=ORIGIN)
    assert (answer.status_code, answer.json()["code"]) == (401, "not_logged_in")
    keycloak.realm.instead.clear()
    assert (await browser.post("/auth/v1/token", headers=ORIGIN)).status_code == 401
    await keycloak.log_in(person, browser)
    assert (await keycloak.me(await keycloak.access_token(browser))).status_code == 200


async def test_logout_ends_the_session_here_and_at_keycloak(keycloak: Kit) -> None:
    person, browser = await keycloak.newcomer(), keycloak.browser()
    await keycloak.log_in(person, browser)
    token, sid = await keycloak.access_token(browser), await keycloak.sid_of(browser)
    assert (await browser.post("/auth/v1/logout", headers=ORIGIN)).status_code == 204
    assert sid not in keycloak.realm.sessions
    assert (await keycloak.me(token)).json()["code"] == "session_ended"
    await keycloak.log_in(person, browser)
    assert (await keycloak.me(await keycloak.access_token(browser))).status_code == 200


async def test_a_logout_that_keycloak_could_not_be_told_is_made_up_for_at_the_next_login(keycloak: Kit) -> None:
    person, browser = await keycloak.newcomer(), keycloak.browser()
    await keycloak.log_in(person, browser)
    token, sid = await keycloak.access_token(browser), await keycloak.sid_of(browser)
    keycloak.realm.out = True
    assert (await browser.post("/auth/v1/logout", headers=ORIGIN)).status_code == 204
    assert (await keycloak.me(token)).json()["code"] == "session_ended"
    keycloak.realm.out = False
    assert sid in keycloak.realm.sessions
    refused = await keycloak.come_back(person, browser)
    assert (refused.status_code, "kgl_session" in browser.cookies) == (400, False)
    assert sid not in keycloak.realm.sessions
    await keycloak.log_in(person, browser)
    assert (await keycloak.me(await keycloak.access_token(browser))).status_code == 200


async def test_a_code_that_answers_another_request_or_is_made_up_opens_no_session(keycloak: Kit) -> None:
    person, browser = await keycloak.newcomer(), keycloak.browser()
    back = httpx.URL(await keycloak.way_back(person, browser))
    for changed in ({"code": "made-up"}, {"state": "another"}, {"error": "access_denied"}):
        other = back.copy_merge_params(changed)
        copy = keycloak.browser()
        copy.cookies.set("kgl_login", browser.cookies["kgl_login"], domain="localhost.local")
        answer = await copy.get(str(other))
        assert (answer.status_code, "kgl_session" in copy.cookies) == (400, False)


@pytest.mark.parametrize(
    "claims", [{"nonce": "x"}, {"aud": "spa"}, {"typ": "Bearer"}, {"iss": "http://x"}, {"sub": str(uuid4())}]
)
async def test_an_id_token_that_is_not_the_one_asked_for_opens_no_session(
    keycloak: Kit, claims: dict[str, str]
) -> None:
    person, browser = await keycloak.newcomer(), keycloak.browser()
    back = await keycloak.way_back(person, browser)
    sid = next(iter(keycloak.realm.sessions))
    said = {"aud": "kgl-auth", "typ": "ID", "nonce": "x", **claims}
    given = {"access_token": keycloak.realm.token(person.id, sid), "refresh_token": "r", "expires_in": 300}
    for id_token in (keycloak.realm.token(person.id, sid, **said), "a.b.c", None):
        keycloak.realm.instead["/token"] = httpx.Response(200, json={**given, "id_token": id_token})
        assert (await browser.get(back)).status_code == 400
        assert "kgl_session" not in browser.cookies
