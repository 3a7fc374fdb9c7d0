"""The browser flow: register, log in by the plain page, tokens for the cookie, log out."""

import asyncio
import base64
import hashlib
from uuid import UUID

import orjson
import pytest

from kgl_auth.testing import PASSWORD, PUBLIC_URL, AuthKit, auth_for_tests
from kgl_contracts.identity import SessionRevoked
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.testing.postgres import Roles

ORIGIN = {"Origin": PUBLIC_URL}
WRONG = "The e-mail address or the password is wrong."


async def test_a_person_registers_logs_in_by_the_page_and_gets_tokens(auth: AuthKit) -> None:
    person = await auth.register()
    browser = await auth.log_in(person, next="/documents?page=2")
    token = await auth.access_token(browser)
    me = await browser.get("/auth/v1/me", headers={"Authorization": f"Bearer {token}"})
    assert me.status_code == 200, me.text
    assert me.json()["user"]["id"] == str(person.id)
    assert [each["slug"] for each in me.json()["workspaces"]] == [person.slug]
    assert "owner" in me.json()["workspaces"][0]["roles"]


async def test_a_wrong_password_and_an_unknown_account_get_the_same_page_and_no_code(auth: AuthKit) -> None:
    person, browser = await auth.register(), auth.browser("192.0.2.50")
    page, answers = await auth.login_page(browser), []
    for email in (person.email, "nobody@example.com"):
        answer = await auth.submit(browser, page, email=email, password="not the password")
        assert answer.status_code == 400
        assert WRONG in answer.text
        assert "location" not in answer.headers
        answers.append(answer.text.replace(email, ""))
    assert answers[0] == answers[1]


async def test_whatever_is_typed_as_an_address_is_only_a_wrong_login(auth: AuthKit) -> None:
    browser = auth.browser("192.0.2.51")
    for email in ("", "a\x00b", "x" * 5000, "' or 1=1 --", "\ud83d\ude00"):
        page = await auth.login_page(browser)
        typed = email.encode("utf-16", "surrogatepass").decode("utf-16")
        answer = await auth.submit(browser, page, email=typed, password="not the password")
        assert answer.status_code == 400, answer.text
        assert WRONG in answer.text


@pytest.mark.parametrize(
    "next", ["https://evil.example/", "//evil.example", "/\\evil.example", "evil", "/\t/evil.example"]
)
async def test_nobody_is_sent_to_another_site_after_login(auth: AuthKit, next: str) -> None:
    answer = await auth.browser().get("/auth/v1/login", params={"next": next})
    assert answer.status_code == 400
    assert answer.json()["code"] == "next_refused"


async def test_a_pending_login_that_somebody_else_wrote_leads_to_no_other_site(auth: AuthKit) -> None:
    person, browser = await auth.register(), auth.browser()
    page = await auth.login_page(browser, "/a")
    sent = await auth.submit(browser, page, email=person.email, password=PASSWORD)
    browser.cookies.set("kgl_login", "eyJuZXh0IjoiLy9ldmlsLmV4YW1wbGUifQ")
    back = await browser.get(sent.headers["location"])
    assert back.status_code == 400
    assert "kgl_session" not in browser.cookies


async def test_a_form_without_its_token_or_from_another_browser_logs_nobody_in(auth: AuthKit) -> None:
    person, browser, other = await auth.register(), auth.browser(), auth.browser()
    page, foreign = await auth.login_page(browser), await auth.login_page(other)
    typed = {"email": person.email, "password": PASSWORD}
    assert (await auth.submit(browser, page, form_token="", **typed)).status_code == 403
    browser.cookies.delete("kgl_form")
    assert (await auth.submit(browser, page, **typed)).status_code == 403
    page = await auth.login_page(browser)
    theirs = {"form_token": foreign.text.split('name="form_token" value="')[1].split('"')[0]}
    assert (await auth.submit(browser, page, **typed, **theirs)).status_code == 403
    assert (await auth.submit(browser, page, **typed)).status_code == 303


async def test_a_form_that_another_site_sends_logs_nobody_in(auth: AuthKit) -> None:
    person, browser = await auth.register(), auth.browser()
    page = await auth.login_page(browser)
    token = page.text.split('name="form_token" value="')[1].split('"')[0]
    address = str(page.url).replace("/authorize?", "/login?")
    typed = {"email": person.email, "password": PASSWORD, "form_token": token}
    answer = await browser.post(address, data=typed, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403


async def test_a_callback_that_this_browser_did_not_begin_opens_no_session(auth: AuthKit) -> None:
    person, browser, victim = await auth.register(), auth.browser(), auth.browser()
    page = await auth.login_page(browser)
    sent = await auth.submit(browser, page, email=person.email, password=PASSWORD)
    await auth.login_page(victim)
    for other in (victim, auth.browser()):
        answer = await other.get(sent.headers["location"])
        assert answer.status_code == 400
        assert "/auth/v1/login?next=/" in answer.text
        assert "kgl_session" not in other.cookies
    assert (await browser.get(sent.headers["location"])).status_code == 303


async def test_a_code_that_answers_another_request_opens_no_session(auth: AuthKit) -> None:
    person, browser = await auth.register(), auth.browser()
    page = await auth.login_page(browser)
    sent = await auth.submit(browser, page, email=person.email, password=PASSWORD)
    kept = browser.cookies["kgl_login"]
    pending = orjson.loads(base64.urlsafe_b64decode(kept + "=" * (-len(kept) % 4)))
    other = base64.urlsafe_b64encode(orjson.dumps({**pending, "nonce": "another"})).decode()
    browser.cookies.delete("kgl_login")
    browser.cookies.set("kgl_login", other)
    assert (await browser.get(sent.headers["location"])).status_code == 400
    assert "kgl_session" not in browser.cookies


async def test_a_login_that_was_given_up_or_whose_code_is_wrong_opens_no_session(auth: AuthKit) -> None:
    for answer in ({"error": "access_denied"}, {"code": "made-up"}):
        browser = auth.browser()
        begun = await browser.get("/auth/v1/login")
        state = begun.next_request.url.params["state"] if begun.next_request else ""
        back = await browser.get("/auth/v1/callback", params={"state": state, **answer})
        assert back.status_code == 400
        assert "kgl_session" not in browser.cookies


async def test_cookies_are_closed_to_scripts_and_other_sites(auth: AuthKit) -> None:
    person, browser = await auth.register(), auth.browser()
    page = await auth.login_page(browser)
    sent = await auth.submit(browser, page, email=person.email, password=PASSWORD)
    back = await browser.get(sent.headers["location"])
    cookies = [*page.headers.get_list("set-cookie"), *back.headers.get_list("set-cookie")]
    assert {cookie.split("=")[0] for cookie in cookies} >= {"kgl_form", "kgl_session"}
    for cookie in cookies:
        parts = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert parts >= {"httponly", "samesite=lax", "path=/"}
        assert "secure" not in parts


async def test_under_https_cookies_are_secure_and_bound_to_the_host(roles: Roles) -> None:
    async with auth_for_tests(roles, public_url="https://lab.example") as auth:
        answer = await auth.browser().get("https://lab.example/auth/v1/login")
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-kgl-login=")
        assert "secure" in cookie.lower()
        assert "domain" not in cookie.lower()
        assert auth.service.authority is not None
        assert auth.service.authority.session_cookie == "__Host-kgl"


async def test_the_pages_allow_no_scripts_frames_or_foreign_content(auth: AuthKit) -> None:
    page = await auth.login_page(auth.browser())
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy
    style = page.text.split("<style>")[1].split("</style>")[0]
    assert f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" in policy
    assert "<script" not in page.text
    assert "http" not in page.text.replace("http-equiv", "").split("<form")[0]
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("origin", [{}, {"Origin": "https://evil.example"}, {"Origin": "null"}])
async def test_only_our_pages_get_tokens_for_the_cookie_or_end_its_session(
    auth: AuthKit, origin: dict[str, str]
) -> None:
    browser = await auth.log_in(await auth.register())
    for path in ("token", "logout"):
        answer = await browser.post(f"/auth/v1/{path}", headers=origin)
        assert answer.status_code == 403
        assert answer.json()["code"] == "origin_refused"
    await auth.access_token(browser)


async def test_a_listed_origin_may_use_the_cookie(roles: Roles) -> None:
    async with auth_for_tests(roles, cors_origins=("http://localhost:3000",)) as auth:
        browser = await auth.log_in(await auth.register())
        answer = await browser.post("/auth/v1/token", headers={"Origin": "http://localhost:3000"})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"


async def test_without_the_cookie_there_is_no_token_even_for_a_bearer(auth: AuthKit) -> None:
    person = await auth.register()
    assert (await auth.browser().post("/auth/v1/token", headers=ORIGIN)).status_code == 401
    bearer = await auth.bearer(person)
    answer = await auth.browser().post("/auth/v1/token", headers={**ORIGIN, **bearer})
    assert answer.status_code == 401
    assert answer.json()["code"] == "not_logged_in"


async def test_twins_get_a_token_each_and_the_session_lives_on(auth: AuthKit) -> None:
    browser = await auth.log_in(await auth.register())
    answers = await asyncio.gather(*(browser.post("/auth/v1/token", headers=ORIGIN) for _ in range(5)))
    assert [answer.status_code for answer in answers] == [200] * 5
    assert len({answer.json()["access_token"] for answer in answers}) == 5
    await auth.access_token(browser)


async def test_logout_revokes_the_session_everywhere(auth: AuthKit) -> None:
    person = await auth.register()
    browser = await auth.log_in(person)
    token = {"Authorization": f"Bearer {await auth.access_token(browser)}"}
    cookie = browser.cookies["kgl_session"]
    before = len(await auth.emitted(SessionRevoked))
    assert (await browser.get("/auth/v1/me", headers=token)).status_code == 200
    assert (await browser.post("/auth/v1/logout", headers=ORIGIN)).status_code == 204
    assert "kgl_session" not in browser.cookies
    answer = await auth.browser().get("/auth/v1/me", headers=token)
    assert answer.status_code == 401
    assert answer.json()["code"] == "session_ended"
    browser.cookies.set("kgl_session", cookie)
    assert (await browser.post("/auth/v1/token", headers=ORIGIN)).status_code == 401
    revoked = (await auth.emitted(SessionRevoked))[before:]
    assert [event.user_id for event in revoked] == [person.id]
    assert (await browser.post("/auth/v1/logout", headers=ORIGIN)).status_code == 204
    assert len(await auth.emitted(SessionRevoked)) == before + 1


async def test_logging_in_anew_ends_the_session_that_the_browser_had(auth: AuthKit) -> None:
    person = await auth.register()
    browser = await auth.log_in(person)
    token = {"Authorization": f"Bearer {await auth.access_token(browser)}"}
    await auth.log_in(person, browser)
    assert (await auth.browser().get("/auth/v1/me", headers=token)).status_code == 401
    await auth.access_token(browser)


async def test_nothing_is_left_of_a_cookie_whose_session_has_ended(auth: AuthKit) -> None:
    async def cookies_of(tx: Transaction, user_id: UUID) -> int:
        count: int = await tx.fetchval("select count(*) from browser_session where user_id = $1", user_id)
        return count

    person = await auth.register()
    browser = await auth.log_in(person)
    assert await auth.database.run((), cookies_of, person.id) == 1
    await browser.post("/auth/v1/logout", headers=ORIGIN)
    assert await auth.database.run((), cookies_of, person.id) == 0


async def test_a_cookie_is_of_no_use_when_the_time_of_its_session_is_over(auth: AuthKit) -> None:
    async def expire(tx: Transaction, user_id: UUID) -> None:
        await tx.execute("update login_session set expires_at = now() where user_id = $1", user_id)

    person = await auth.register()
    browser = await auth.log_in(person)
    await auth.database.run((), expire, person.id)
    assert (await browser.get("/auth/v1/me")).json()["code"] == "session_ended"
    assert (await browser.post("/auth/v1/token", headers=ORIGIN)).status_code == 401


async def test_the_database_alone_cannot_read_a_browsers_refresh_token(auth: AuthKit) -> None:
    browser = await auth.log_in(await auth.register())
    cookie = browser.cookies["kgl_session"]

    async def everything(tx: Transaction, _: None) -> str:
        rows = await tx.fetch("select * from browser_session") + await tx.fetch("select * from refresh_token")
        return str([tuple(row) for row in rows])

    assert cookie not in await auth.database.run((), everything, None)


async def test_a_person_can_make_an_account_on_the_way_and_is_logged_in(auth: AuthKit) -> None:
    browser = auth.browser()
    page = await auth.login_page(browser, "/start")
    link = page.text.split('<a href="')[1].split('"')[0].replace("&amp;", "&")
    form = await browser.get(str(page.url.join(link)))
    assert form.status_code == 200
    typed = {"name": "Grace Hopper", "email": "grace@example.com", "password": "short"}
    weak = await auth.submit(browser, form, **typed)
    assert weak.status_code == 422
    assert "at least 10 characters" in weak.text
    assert 'value="Grace Hopper"' in weak.text
    nameless = await auth.submit(browser, weak, **{**typed, "name": "  ", "password": PASSWORD})
    assert nameless.status_code == 422
    forged = await auth.submit(browser, weak, **{**typed, "password": PASSWORD, "form_token": "x"})
    assert forged.status_code == 403
    sent = await auth.submit(browser, weak, **{**typed, "password": PASSWORD})
    assert sent.status_code == 303
    back = await browser.get(sent.headers["location"])
    assert back.headers["location"] == "/start"
    await auth.access_token(browser)
    again = await auth.submit(browser, weak, **{**typed, "password": PASSWORD})
    assert again.status_code == 409
    assert "has an account" in again.text


async def test_what_a_person_types_is_never_markup(auth: AuthKit) -> None:
    browser = auth.browser()
    page = await auth.login_page(browser)
    answer = await auth.submit(browser, page, email='"><script>alert(1)</script>', password="x")
    assert "<script>" not in answer.text
    assert "&lt;script&gt;" in answer.text
