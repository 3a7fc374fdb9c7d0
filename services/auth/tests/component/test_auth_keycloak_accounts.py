"""Accounts that Keycloak keeps, and what goes on while it is out."""

import httpx
import pytest

from kgl_auth.testing import PASSWORD, PUBLIC_URL, Person
from kgl_auth.testing_fake_keycloak import FakeKeycloak
from kgl_auth.testing_keycloak import KeycloakKit, keycloak_for_tests
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.testing.postgres import Roles

Kit = KeycloakKit[FakeKeycloak]
ISSUER = f"{PUBLIC_URL}/realms/kgl"
ORIGIN = {"Origin": PUBLIC_URL}


async def test_while_keycloak_is_out_logins_wait_and_tokens_and_keys_go_on(keycloak: Kit, lab: str) -> None:
    owner = await keycloak.first_owner(lab)
    person, browser = await keycloak.newcomer(), keycloak.browser()
    await keycloak.log_in(person, browser)
    token, unseen = await keycloak.access_token(browser), await keycloak.realm.elsewhere(person.id)
    back = await keycloak.way_back(person, browser)
    keycloak.realm.out = True
    register = {"email": "x@example.com", "password": PASSWORD, "name": "X"}
    waiting = [
        await browser.get("/auth/v1/login"),
        await browser.get(back),
        await browser.post("/auth/v1/token", headers=ORIGIN),
        await keycloak.browser().post("/auth/v1/register", json=register),
        await keycloak.me(unseen),
    ]
    for answer in waiting:
        assert answer.status_code == 503, answer.text
        assert answer.json()["code"] == "identity_provider_unavailable"
        assert int(answer.headers["retry-after"]) >= 1
    assert (await keycloak.me(token)).status_code == 200
    assert (await keycloak.me(owner.api_key.key)).status_code == 200
    ready = await keycloak.browser().get("/health/ready")
    assert (ready.status_code, ready.json()["dependencies"]["keycloak"]["up"]) == (200, False)
    keycloak.realm.out = False
    assert (await browser.get(back)).status_code == 303
    await keycloak.access_token(browser)
    assert (await keycloak.me(unseen)).status_code == 200
    assert (await keycloak.browser().get("/health/ready")).json()["dependencies"]["keycloak"]["up"] is True


@pytest.mark.parametrize("answer", [httpx.Response(500), httpx.Response(200, text="no"), httpx.Response(401, json={})])
async def test_what_keycloak_should_not_answer_is_an_outage_and_no_refusal(
    keycloak: Kit, answer: httpx.Response
) -> None:
    browser = await keycloak.log_in(await keycloak.newcomer())
    keycloak.realm.instead["/token"] = answer
    assert (await browser.post("/auth/v1/token", headers=ORIGIN)).status_code == 503
    keycloak.realm.instead.clear()
    await keycloak.access_token(browser)


async def test_registration_makes_the_account_at_keycloak_and_no_password_here(keycloak: Kit) -> None:
    person = await keycloak.register("Ada Lovelace")
    assert keycloak.realm.users[person.id].email == person.email
    seen = (await keycloak.me(await keycloak.access_token(await keycloak.log_in(person)))).json()
    assert [each["slug"] for each in seen["workspaces"]] == [person.slug]

    async def hashes(tx: Transaction, _: None) -> int:
        return int(await tx.fetchval("select count(*) from user_account where password_hash is not null"))

    assert await keycloak.database.run((), hashes, None) == 0


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"password": "short"}, 422, "weak_password"),
        ({"password": "1234567890123"}, 422, "weak_password"),
        ({"email": "nobody"}, 422, "email_malformed"),
        ({"email": "taken@example.com"}, 409, "email_taken"),
    ],
)
async def test_registration_is_refused_with_the_same_codes_as_by_the_built_in_issuer(
    keycloak: Kit, changes: dict[str, str], status: int, code: str
) -> None:
    await keycloak.realm.create_user("taken@example.com", "Taken", PASSWORD)
    body = {"email": "new@example.com", "password": PASSWORD, "name": "New", **changes}
    answer = await keycloak.browser().post("/auth/v1/register", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    if code == "weak_password":
        assert answer.json()["errors"][0]["pointer"] == "#/password"


async def test_closed_registration_makes_no_account_anywhere(realm_roles: Roles) -> None:
    realm = FakeKeycloak(ISSUER)
    async with keycloak_for_tests(realm_roles, realm, realm, open_registration=False) as keycloak:
        body = {"email": "new@example.com", "password": PASSWORD, "name": "New"}
        assert (await keycloak.browser().post("/auth/v1/register", json=body)).json()["code"] == "registration_closed"
        assert realm.users == {}


async def test_the_first_owner_has_the_account_at_keycloak_and_a_second_start_changes_nothing(
    keycloak: Kit, lab: str
) -> None:
    owner = await keycloak.first_owner(lab)
    assert keycloak.realm.users[owner.user_id].email == f"owner@{lab}.localhost"
    again = await keycloak.first_owner(lab)
    assert (again.user_id, again.workspace_id, again.api_key) == (owner.user_id, owner.workspace_id, None)
    assert len(keycloak.realm.users) == 1
    person = Person(owner.user_id, f"owner@{lab}.localhost", owner.workspace_id, lab)
    token = await keycloak.access_token(await keycloak.log_in(person))
    headers = {"Authorization": f"Bearer {token}", "Kgl-Workspace": lab}
    checked = (await keycloak.browser().get("/auth/v1/check", headers=headers)).json()
    assert {"instance:*", "documents:read"} <= set(checked["permissions"])


async def test_the_built_in_issuers_endpoints_name_the_issuer(keycloak: Kit) -> None:
    client = keycloak.browser()
    for path in (".well-known/openid-configuration", "jwks", "authorize", "userinfo", "logout"):
        answer = await client.get(f"/auth/v1/oidc/{path}")
        assert (answer.status_code, answer.json()["code"], answer.json()["issuer"]) == (404, "issued_elsewhere", ISSUER)
    answer = await client.post("/auth/v1/oidc/token", data={"grant_type": "authorization_code"})
    assert (answer.status_code, answer.json()["code"]) == (404, "issued_elsewhere")
