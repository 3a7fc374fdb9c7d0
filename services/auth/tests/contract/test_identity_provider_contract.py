"""The browser's login is the same whoever logs people in."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from uuid import uuid4

import httpx
import pytest

from kgl_auth.bootstrap import MIGRATIONS
from kgl_auth.testing import PASSWORD, PUBLIC_URL, AuthKit, Person, auth_for_tests
from kgl_auth.testing_fake_keycloak import FakeKeycloak
from kgl_auth.testing_keycloak import keycloak_for_tests
from kgl_auth.testing_keycloak_server import realm_on, settings_of
from kgl_contracts.identity import SessionRevoked
from kgl_servicekit.testing.postgres import PostgresForTests, Roles
from kgl_servicekit.testing.servers import real_servers

ORIGIN = {"Origin": PUBLIC_URL}


@asynccontextmanager
async def built_in(roles: Roles) -> AsyncIterator[AuthKit]:
    async with auth_for_tests(roles) as kit:
        yield kit


@asynccontextmanager
async def in_process(roles: Roles) -> AsyncIterator[AuthKit]:
    realm = FakeKeycloak(f"{PUBLIC_URL}/realms/kgl")
    async with keycloak_for_tests(roles, realm, realm) as kit:
        yield kit


@asynccontextmanager
async def on_server(roles: Roles) -> AsyncIterator[AuthKit]:
    server = real_servers().keycloak
    assert server is not None
    async with realm_on(server) as realm, keycloak_for_tests(roles, realm, None, **settings_of(realm)) as kit:
        yield kit


Open = Callable[[Roles], AbstractAsyncContextManager[AuthKit]]


@pytest.fixture(
    scope="module",
    params=[built_in, in_process, *([on_server] if real_servers().keycloak else [])],
    ids=lambda open: open.__name__,
)
async def auth(request: pytest.FixtureRequest, postgres: PostgresForTests) -> AsyncIterator[AuthKit]:
    open: Open = request.param
    async with postgres.database(MIGRATIONS) as roles, open(roles) as kit:
        yield kit


async def me(auth: AuthKit, token: str) -> httpx.Response:
    return await auth.browser().get("/auth/v1/me", headers={"Authorization": f"Bearer {token}"})


async def test_a_person_registers_logs_in_and_gets_tokens_that_say_who_they_are(auth: AuthKit) -> None:
    person = await auth.register(f"Ada {uuid4().hex[:6]}")
    browser = await auth.log_in(person, next="/documents?page=2")
    answer = await me(auth, await auth.access_token(browser))
    assert answer.status_code == 200, answer.text
    assert answer.json()["user"]["id"] == str(person.id)
    assert [(each["slug"], each["roles"]) for each in answer.json()["workspaces"]] == [(person.slug, ["owner"])]


async def test_the_cookie_stands_for_the_person_here(auth: AuthKit) -> None:
    person = await auth.register()
    answer = await (await auth.log_in(person)).get("/auth/v1/me")
    assert answer.json()["user"]["id"] == str(person.id)


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"password": "short"}, 422, "weak_password"),
        ({"email": "nobody"}, 422, "email_malformed"),
        ({"email": "TAKEN@example.com"}, 409, "email_taken"),
    ],
)
async def test_registration_is_refused_with_the_same_codes(
    auth: AuthKit, changes: dict[str, str], status: int, code: str
) -> None:
    body = {"email": "taken@example.com", "password": PASSWORD, "name": "New"}
    await auth.browser(address=uuid4().hex).post("/auth/v1/register", json=body)
    answer = await auth.browser(address=uuid4().hex).post("/auth/v1/register", json={**body, **changes})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_twins_get_a_token_each_and_the_session_lives_on(auth: AuthKit) -> None:
    browser = await auth.log_in(await auth.register())
    answers = await asyncio.gather(*(browser.post("/auth/v1/token", headers=ORIGIN) for _ in range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len({answer.json()["access_token"] for answer in answers}) == 4
    await auth.access_token(browser)


async def test_logout_revokes_the_session_everywhere_and_the_next_login_is_a_new_one(auth: AuthKit) -> None:
    person = await auth.register()
    browser = await auth.log_in(person)
    token, cookie = await auth.access_token(browser), browser.cookies["kgl_session"]
    assert (await browser.post("/auth/v1/logout", headers=ORIGIN)).status_code == 204
    assert (await me(auth, token)).json()["code"] == "session_ended"
    revoked = [event for event in await auth.emitted(SessionRevoked) if event.user_id == person.id]
    assert len(revoked) == 1
    other = auth.browser()
    other.cookies.set("kgl_session", cookie)
    assert (await other.post("/auth/v1/token", headers=ORIGIN)).status_code == 401
    await auth.log_in(person, browser)
    assert (await me(auth, await auth.access_token(browser))).status_code == 200
    assert (await me(auth, token)).status_code == 401


async def test_logging_in_anew_leaves_the_browser_with_one_session_that_works(auth: AuthKit) -> None:
    person = await auth.register()
    browser = await auth.log_in(person)
    cookie = browser.cookies["kgl_session"]
    await auth.log_in(person, browser)
    assert (await me(auth, await auth.access_token(browser))).status_code == 200
    other = auth.browser()
    other.cookies.set("kgl_session", cookie)
    assert (await other.post("/auth/v1/token", headers=ORIGIN)).status_code == 401


async def test_two_browsers_of_one_person_have_a_session_each(auth: AuthKit) -> None:
    person = await auth.register()
    first, second = await auth.log_in(person), await auth.log_in(person)
    tokens = [await auth.access_token(browser) for browser in (first, second)]
    await first.post("/auth/v1/logout", headers=ORIGIN)
    assert [(await me(auth, token)).status_code for token in tokens] == [401, 200]


async def test_a_login_that_was_given_up_or_whose_code_is_made_up_opens_no_session(auth: AuthKit) -> None:
    for answer in ({"error": "access_denied"}, {"code": "made-up"}):
        browser = auth.browser()
        begun = await browser.get("/auth/v1/login")
        assert begun.next_request is not None
        state = begun.next_request.url.params["state"]
        back = await browser.get("/auth/v1/callback", params={"state": state, **answer})
        assert (back.status_code, "kgl_session" in browser.cookies) == (400, False)


async def test_only_our_pages_get_tokens_for_the_cookie(auth: AuthKit) -> None:
    browser = await auth.log_in(await auth.register())
    answer = await browser.post("/auth/v1/token", headers={"Origin": "https://evil.example"})
    assert (answer.status_code, answer.json()["code"]) == (403, "origin_refused")
    await auth.access_token(browser)


async def test_the_token_of_a_changed_payload_is_refused(auth: AuthKit) -> None:
    person: Person = await auth.register()
    token = await auth.access_token(await auth.log_in(person))
    header, payload, signature = token.split(".")
    for forged in (f"{header}.{payload[:-2]}AA.{signature}", f"{header}.{payload}.{signature[:-4]}AAAA"):
        assert (await me(auth, forged)).status_code == 401
