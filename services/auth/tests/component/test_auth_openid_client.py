"""The built-in issuer as other OpenID clients see it."""

import asyncio
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from kgl_auth.testing import CALLBACK, CLIENT, OTHER_CLIENT, PASSWORD, PUBLIC_URL, AppLogin, AuthKit, Person
from kgl_contracts.identity import SessionRevoked
from kgl_servicekit.database.transaction import Transaction

ISSUER = f"{PUBLIC_URL}/auth/v1/oidc"


@pytest.fixture(scope="module")
async def person(auth: AuthKit) -> Person:
    return await auth.register()


async def tokens(auth: AuthKit, person: Person) -> tuple[httpx.AsyncClient, dict[str, Any]]:
    """A client with the tokens of a new login."""
    login, browser = AppLogin(), auth.browser()
    code = await login.code(auth, browser, person)
    answer = await browser.post("/auth/v1/oidc/token", data=login.redemption(code))
    assert answer.status_code == 200, answer.text
    return browser, answer.json()


async def refresh(client: httpx.AsyncClient, token: str) -> httpx.Response:
    form = {"grant_type": "refresh_token", "client_id": CLIENT.client_id, "refresh_token": token}
    return await client.post("/auth/v1/oidc/token", data=form)


async def later(auth: AuthKit, statement: str) -> None:
    """Change what the clock has set."""

    async def change(tx: Transaction, _: None) -> None:
        await tx.execute(statement)

    await auth.database.run((), change, None)


async def revoked_sessions(auth: AuthKit) -> set[str]:
    return {event.session_id for event in await auth.emitted(SessionRevoked)}


async def test_discovery_and_keys_are_what_a_client_needs_to_verify_the_tokens(auth: AuthKit, person: Person) -> None:
    client, given = await tokens(auth, person)
    about = (await client.get("/auth/v1/oidc/.well-known/openid-configuration")).json()
    assert about["issuer"] == ISSUER
    assert about["code_challenge_methods_supported"] == ["S256"]
    keys = (await client.get(about["jwks_uri"])).json()
    assert all(key["kty"] == "RSA" and "d" not in key for key in keys["keys"])
    access = jwt.decode(given["access_token"], KeySet.import_key_set(keys), algorithms=["RS256"])
    assert access.header["typ"] == "at+jwt"
    claims = access.claims
    assert claims["iss"] == ISSUER
    assert (claims["sub"], claims["aud"], claims["azp"]) == (str(person.id), "kgl", CLIENT.client_id)
    assert claims["exp"] - claims["iat"] == given["expires_in"] == 300
    assert {"jti", "sid", "nbf", "email", "name"} <= claims.keys()
    identity = jwt.decode(given["id_token"], KeySet.import_key_set(keys), algorithms=["RS256"])
    assert identity.header["typ"] == "JWT"
    assert identity.claims["aud"] == CLIENT.client_id
    assert identity.claims["nonce"] == AppLogin().nonce
    assert identity.claims["sid"] == claims["sid"]


async def test_an_id_or_refresh_token_is_no_access_token(auth: AuthKit, person: Person) -> None:
    client, given = await tokens(auth, person)
    for token in (given["id_token"], given["refresh_token"]):
        answer = await client.get("/auth/v1/me", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401


async def test_userinfo_says_who_it_is_by_get_and_post(auth: AuthKit, person: Person) -> None:
    client, given = await tokens(auth, person)
    bearer = {"Authorization": f"Bearer {given['access_token']}"}
    for answer in (
        await client.get("/auth/v1/oidc/userinfo", headers=bearer),
        await client.post("/auth/v1/oidc/userinfo", headers=bearer),
    ):
        assert answer.status_code == 200
        assert answer.json()["sub"] == str(person.id)
        assert answer.json()["email"] == person.email
    refused = await client.get("/auth/v1/oidc/userinfo")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")


async def test_a_code_that_is_used_twice_ends_the_session_that_it_opened(auth: AuthKit, person: Person) -> None:
    login, browser = AppLogin(), auth.browser()
    code = await login.code(auth, browser, person)
    first = await browser.post("/auth/v1/oidc/token", data=login.redemption(code))
    bearer = {"Authorization": f"Bearer {first.json()['access_token']}"}
    assert (await browser.get("/auth/v1/me", headers=bearer)).status_code == 200
    before = await revoked_sessions(auth)
    second = await browser.post("/auth/v1/oidc/token", data=login.redemption(code))
    assert second.status_code == 400
    assert second.json()["error"] == "invalid_grant"
    assert (await browser.get("/auth/v1/me", headers=bearer)).json()["code"] == "session_ended"
    assert (await refresh(browser, first.json()["refresh_token"])).json()["error"] == "invalid_grant"
    assert len(await revoked_sessions(auth) - before) == 1


async def test_of_two_uses_of_a_code_at_once_one_is_served_and_the_session_ends(auth: AuthKit, person: Person) -> None:
    for _ in range(5):
        login, browser = AppLogin(), auth.browser()
        code = await login.code(auth, browser, person)
        answers = await asyncio.gather(
            *(browser.post("/auth/v1/oidc/token", data=login.redemption(code)) for _ in range(3))
        )
        assert sorted(answer.status_code for answer in answers) == [200, 400, 400]
        served = next(answer for answer in answers if answer.status_code == 200)
        assert (await refresh(browser, served.json()["refresh_token"])).status_code == 400


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": "x" * 43},
        {"code_verifier": "short"},
        {"redirect_uri": CALLBACK + "/"},
        {"code": "made-up"},
    ],
)
async def test_a_code_needs_its_verifier_and_redirect_uri_and_has_one_try(
    auth: AuthKit, person: Person, changes: dict[str, str]
) -> None:
    login, browser = AppLogin(), auth.browser()
    code = await login.code(auth, browser, person)
    answer = await browser.post("/auth/v1/oidc/token", data={**login.redemption(code), **changes})
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_grant"
    assert answer.headers["cache-control"] == "no-store"
    again = await browser.post("/auth/v1/oidc/token", data=login.redemption(code))
    assert again.status_code == (200 if "code" in changes else 400)


async def test_what_one_client_was_given_is_of_no_use_to_another(auth: AuthKit, person: Person) -> None:
    login, browser = AppLogin(), auth.browser()
    code = await login.code(auth, browser, person)
    stolen = {**login.redemption(code), "client_id": OTHER_CLIENT.client_id}
    assert (await browser.post("/auth/v1/oidc/token", data=stolen)).json()["error"] == "invalid_grant"
    client, given = await tokens(auth, person)
    form = {"grant_type": "refresh_token", "refresh_token": given["refresh_token"]}
    answer = await client.post("/auth/v1/oidc/token", data={**form, "client_id": OTHER_CLIENT.client_id})
    assert answer.json()["error"] == "invalid_grant"
    assert (await refresh(client, given["refresh_token"])).status_code == 200


async def test_a_code_is_void_after_a_minute(auth: AuthKit, person: Person) -> None:
    login, browser = AppLogin(), auth.browser()
    code = await login.code(auth, browser, person)
    await later(auth, "update authorization_code set expires_at = expires_at - interval '61 seconds'")
    answer = await browser.post("/auth/v1/oidc/token", data=login.redemption(code))
    assert answer.json()["error"] == "invalid_grant"
    assert "expired" in answer.json()["error_description"]


async def test_the_code_of_the_browser_flow_is_of_no_use_to_clients(auth: AuthKit, person: Person) -> None:
    browser = auth.browser()
    sent = await auth.submit(browser, await auth.login_page(browser), email=person.email, password=PASSWORD)
    code = httpx.URL(sent.headers["location"]).params["code"]
    for client_id in ("kgl-browser", "nobody", CLIENT.client_id):
        form = AppLogin().redemption(code, client_id=client_id, redirect_uri=f"{PUBLIC_URL}/auth/v1/callback")
        answer = await browser.post("/auth/v1/oidc/token", data=form)
        assert answer.json()["error"] == ("invalid_grant" if client_id == CLIENT.client_id else "invalid_client")


async def test_refresh_tokens_rotate_and_twins_are_served_within_the_grace(auth: AuthKit, person: Person) -> None:
    client, given = await tokens(auth, person)
    first, twin = [await refresh(client, given["refresh_token"]) for _ in range(2)]
    assert (first.status_code, twin.status_code) == (200, 200)
    assert len({given["refresh_token"], first.json()["refresh_token"], twin.json()["refresh_token"]}) == 3
    assert (await refresh(client, first.json()["refresh_token"])).status_code == 200


async def test_a_refresh_token_that_comes_back_late_ends_the_whole_session(auth: AuthKit, person: Person) -> None:
    client, given = await tokens(auth, person)
    newer = (await refresh(client, given["refresh_token"])).json()
    bearer = {"Authorization": f"Bearer {newer['access_token']}"}
    await later(auth, "update refresh_token set used_at = used_at - interval '11 seconds' where used_at is not null")
    before = await revoked_sessions(auth)
    stolen = await refresh(client, given["refresh_token"])
    assert stolen.status_code == 400
    assert stolen.json()["error"] == "invalid_grant"
    assert (await refresh(client, newer["refresh_token"])).status_code == 400
    assert (await client.get("/auth/v1/me", headers=bearer)).json()["code"] == "session_ended"
    assert len(await revoked_sessions(auth) - before) == 1


async def test_a_session_ends_when_it_is_not_used_and_when_its_time_is_over(auth: AuthKit, person: Person) -> None:
    client, idle = await tokens(auth, person)
    await later(auth, "update refresh_token set expires_at = now() where used_at is null")
    assert (await refresh(client, idle["refresh_token"])).json()["error"] == "invalid_grant"
    client, old = await tokens(auth, person)
    await later(auth, "update login_session set expires_at = now()")
    assert (await refresh(client, old["refresh_token"])).json()["error"] == "invalid_grant"
    bearer = {"Authorization": f"Bearer {old['access_token']}"}
    assert (await client.get("/auth/v1/me", headers=bearer)).status_code == 401


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"client_id": "app"}, "unsupported_grant_type"),
        ({"client_id": "app", "grant_type": "password", "username": "a", "password": "b"}, "unsupported_grant_type"),
        ({"client_id": "app", "grant_type": "authorization_code", "code": "x"}, "invalid_request"),
        ({"client_id": "app", "grant_type": "refresh_token"}, "invalid_request"),
        ({"client_id": "app", "grant_type": "refresh_token", "refresh_token": "x"}, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, "invalid_client"),
    ],
)
async def test_the_token_endpoint_answers_the_errors_of_the_standard(
    auth: AuthKit, form: dict[str, str], error: str
) -> None:
    answer = await auth.browser().post("/auth/v1/oidc/token", data=form)
    assert answer.status_code == (401 if error == "invalid_client" else 400)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"] == error


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "nobody"},
        {"client_id": None},
        {"redirect_uri": CALLBACK + "?x=1"},
        {"redirect_uri": "https://evil.example/callback"},
        {"redirect_uri": None},
    ],
)
async def test_nobody_is_redirected_to_an_address_that_is_not_registered(
    auth: AuthKit, changes: dict[str, str | None]
) -> None:
    answer = await auth.browser().get("/auth/v1/oidc/authorize", params=AppLogin().asked(**changes))
    assert answer.status_code == 400
    assert "location" not in answer.headers
    assert "<form" not in answer.text


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"scope": "email"}, "invalid_scope"),
        ({"prompt": "none"}, "login_required"),
        ({"request": "x.y.z"}, "request_not_supported"),
        ({"request_uri": "https://app.example/r"}, "request_uri_not_supported"),
        ({"nonce": "n" * 1001}, "invalid_request"),
    ],
)
async def test_a_request_that_cannot_be_granted_goes_back_to_its_client(
    auth: AuthKit, changes: dict[str, str | None], error: str
) -> None:
    answer = await auth.browser().get("/auth/v1/oidc/authorize", params=AppLogin().asked(**changes))
    assert answer.status_code == 303
    back = httpx.URL(answer.headers["location"])
    assert str(back).startswith(CALLBACK + "?")
    assert (back.params["error"], back.params["state"], back.params["iss"]) == (error, "state-1", ISSUER)


async def test_parameters_that_are_given_twice_are_refused(auth: AuthKit) -> None:
    values = httpx.QueryParams([*AppLogin().asked().items(), ("scope", "openid")])
    answer = await auth.browser().get("/auth/v1/oidc/authorize", params=values)
    assert answer.status_code == 400


async def test_a_request_may_come_as_a_form_too_and_the_page_lets_its_form_lead_to_the_client(auth: AuthKit) -> None:
    browser = auth.browser()
    page = await browser.post("/auth/v1/oidc/authorize", data=AppLogin().asked(), follow_redirects=True)
    assert page.status_code == 200
    assert "form-action 'self' https://app.example" in page.headers["content-security-policy"]


async def test_a_client_logs_its_user_out_and_gets_them_back_where_it_has_registered(
    auth: AuthKit, person: Person
) -> None:
    client, given = await tokens(auth, person)
    bearer = {"Authorization": f"Bearer {given['access_token']}"}
    asked = {"id_token_hint": given["id_token"], "post_logout_redirect_uri": "https://app.example/bye", "state": "s"}
    answer = await client.get("/auth/v1/oidc/logout", params=asked)
    assert answer.status_code == 303
    assert answer.headers["location"] == "https://app.example/bye?state=s"
    assert (await client.get("/auth/v1/me", headers=bearer)).json()["code"] == "session_ended"
    elsewhere = await client.post(
        "/auth/v1/oidc/logout", data={**asked, "post_logout_redirect_uri": "https://evil.example/"}
    )
    assert elsewhere.status_code == 200
    assert "You are logged out" in elsewhere.text


async def test_nobody_is_logged_out_by_a_token_that_we_did_not_sign_as_an_id_token(
    auth: AuthKit, person: Person
) -> None:
    client, given = await tokens(auth, person)
    head, body, signature = given["id_token"].split(".")
    for hint in ("", "x", "a.b.c", f"{head}.{body}.{signature[::-1]}", given["access_token"]):
        answer = await client.get("/auth/v1/oidc/logout", params={"id_token_hint": hint})
        assert answer.status_code == 400
    bearer = {"Authorization": f"Bearer {given['access_token']}"}
    assert (await client.get("/auth/v1/me", headers=bearer)).status_code == 200
