"""Keycloak itself, with the realm file: logins, what is refused, and how soon.

`KGL_TEST_SERVERS` has to name a server. Each run has a realm of its own there.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from kgl_auth.bootstrap import MIGRATIONS
from kgl_auth.domain.token_text import claims_of, header_of
from kgl_auth.testing import PASSWORD, PUBLIC_URL, Person
from kgl_auth.testing_keycloak import KeycloakKit, keycloak_for_tests
from kgl_auth.testing_keycloak_server import KeycloakRealm, realm_on, settings_of
from kgl_auth.use_cases.create_first_owner import CreateFirstOwner
from kgl_servicekit.identity.credential import AccessToken
from kgl_servicekit.identity.jwks import http_jwks
from kgl_servicekit.identity.problems import TokenInvalid
from kgl_servicekit.identity.tokens import KEYCLOAK, TokenVerifier
from kgl_servicekit.settings import NotConfigured
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import PostgresForTests, Roles
from kgl_servicekit.testing.servers import Login, real_servers

ORIGIN = {"Origin": PUBLIC_URL}
SOON = 60.0
Kit = KeycloakKit[KeycloakRealm]


@pytest.fixture(scope="module")
def server() -> Login:
    server = real_servers().keycloak
    assert server is not None, "KGL_TEST_SERVERS names no Keycloak"
    return server


@pytest.fixture(scope="module")
async def realm(server: Login) -> AsyncIterator[KeycloakRealm]:
    async with realm_on(server) as realm:
        yield realm


@pytest.fixture(scope="module")
async def roles(postgres: PostgresForTests) -> AsyncIterator[Roles]:
    async with postgres.database(MIGRATIONS) as roles:
        yield roles


@pytest.fixture(scope="module")
async def auth(roles: Roles, realm: KeycloakRealm) -> AsyncIterator[Kit]:
    """The service, and the loop of its worker at its usual pace."""
    group_roles = {"/lab/editors": {"workspace": "lab", "roles": ["editor"]}, "ops": {"instance": ["operator"]}}
    async with keycloak_for_tests(roles, realm, None, **settings_of(realm), group_roles=group_roles) as kit:
        loop = asyncio.create_task(kit.watch.run())
        await kit.service.outside.accounts.create_first_owner(
            CreateFirstOwner(email="owner@kgl.localhost", password=PASSWORD, name="Owner", workspace_slug="lab")
        )
        try:
            yield kit
        finally:
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)


async def is_refused_soon(auth: Kit, token: str) -> None:
    async def refused() -> bool:
        answer = await auth.me(token)
        return answer.status_code == 401 and answer.json()["code"] == "session_ended"

    await eventually(refused, within=SOON, every=0.5, what="not refused")


async def test_the_first_owner_logs_in_with_an_address_of_this_machine(auth: Kit) -> None:
    command = CreateFirstOwner(email="owner@kgl.localhost", password=PASSWORD, name="Owner", workspace_slug="lab")
    owner = await auth.service.outside.accounts.create_first_owner(command)
    assert owner.api_key is None
    person = Person(owner.user_id, "owner@kgl.localhost", owner.workspace_id, "lab")
    token = await auth.access_token(await auth.log_in(person))
    assert await auth.roles_in(token, "lab") == ["owner"]


async def test_a_token_is_taken_by_every_service_with_the_realms_keys(auth: Kit, realm: KeycloakRealm) -> None:
    person = await auth.newcomer("Grace Hopper")
    browser = await auth.log_in(person)
    for token in (await auth.access_token(browser), await auth.access_token(browser)):
        settings = auth.service.settings
        async with httpx.AsyncClient() as client:
            verifier = TokenVerifier(http_jwks(client, settings.keys_url), settings.issuer_url, marks=KEYCLOAK)
            claims = await verifier.verify(AccessToken(token))
        assert claims.user_id == person.id
        assert claims.expires_at - claims.issued_at == 300
        assert claims_of(token)["aud"] == "kgl"
        assert header_of(token)["alg"] == "RS256"
        assert len(token) < 1500
    seen = (await auth.me(token)).json()
    assert (seen["user"]["name"], seen["user"]["email"]) == ("Grace Hopper", person.email)


async def test_what_is_no_access_token_for_us_is_refused(auth: Kit, realm: KeycloakRealm, server: Login) -> None:
    person = await auth.newcomer()
    given = await realm.tokens_elsewhere(person.id)
    assert (await auth.me(given["access_token"])).status_code == 200
    other_client = await realm.elsewhere(person.id, client="not-for-us")
    for token in (given["id_token"], given["refresh_token"], other_client):
        answer = await auth.me(token)
        assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
    async with realm_on(server) as foreign:
        stranger = await foreign.create_user("stranger@example.com", "Stranger", PASSWORD)
        token = await foreign.elsewhere(stranger)
        assert "kgl" in claims_of(token)["aud"]
        assert (await auth.me(token)).status_code == 401
        settings = auth.service.settings
        async with httpx.AsyncClient() as client:
            verifier = TokenVerifier(http_jwks(client, settings.keys_url), settings.issuer_url, marks=KEYCLOAK)
            for wrong in (token, other_client, given["id_token"], given["refresh_token"]):
                with pytest.raises(TokenInvalid):
                    await verifier.verify(AccessToken(wrong))


async def test_a_disabled_user_is_refused_everywhere_within_a_minute(auth: Kit, realm: KeycloakRealm) -> None:
    person, other = await auth.newcomer(), await auth.newcomer()
    browser, bystander = await auth.log_in(person), await auth.log_in(other)
    token, unseen = await auth.access_token(browser), await realm.elsewhere(person.id)
    await realm.disable(person.id)
    answer = await auth.me(unseen)
    assert (answer.status_code, answer.json()["code"]) == (401, "session_ended"), "not even once"
    await is_refused_soon(auth, token)
    assert await auth.ended_of(person) == [claims_of(token)["sid"]]

    async def are_too_old() -> bool:
        before = max(event.before.timestamp() for event in await auth.revocations_of(person))
        return all(claims_of(each)["iat"] < before for each in (token, unseen))

    await eventually(are_too_old, within=SOON, every=0.5)
    assert (await browser.post("/auth/v1/token", headers=ORIGIN)).status_code == 401
    with pytest.raises(LookupError, match=r"disabled|Invalid"):
        await auth.log_in(person, auth.browser())
    await auth.access_token(bystander)
    await realm.enable(person.id)
    await auth.log_in(person, browser)
    assert (await auth.me(await auth.access_token(browser))).status_code == 200


async def test_ends_of_sessions_at_keycloak_are_noticed(auth: Kit, realm: KeycloakRealm) -> None:
    people = [await auth.newcomer() for _ in range(4)]
    tokens = [await auth.access_token(await auth.log_in(person)) for person in people]
    elsewhere = await realm.tokens_elsewhere(people[3].id)
    assert (await auth.me(elsewhere["access_token"])).status_code == 200
    await realm.end_session(claims_of(tokens[0])["sid"])
    await realm.log_out_everywhere(people[1].id)
    await realm.delete(people[2].id)
    form = {"client_id": "spa", "refresh_token": elsewhere["refresh_token"]}
    async with httpx.AsyncClient() as client:
        url = f"{realm.url}/realms/{realm.name}/protocol/openid-connect/logout"
        assert (await client.post(url, data=form)).status_code == 204
    for token in (*tokens[:3], elsewhere["access_token"]):
        await is_refused_soon(auth, token)
    assert (await auth.me(tokens[3])).status_code == 200


async def test_groups_give_roles_and_take_them_back(auth: Kit, realm: KeycloakRealm) -> None:
    person = await auth.newcomer()
    await realm.join(person.id, "/lab/editors")
    browser = await auth.log_in(person)
    token = await auth.access_token(browser)
    assert claims_of(token)["groups"] == ["/lab/editors"]
    assert await auth.roles_in(token, "lab") == ["editor"]
    await realm.join(person.id, "/ops")
    bare = {"Authorization": f"Bearer {token}"}

    async def is_operator() -> bool:
        return "instance:*" in (await auth.browser().get("/auth/v1/check", headers=bare)).json()["permissions"]

    await eventually(is_operator, within=SOON, every=0.5)
    await realm.leave(person.id, "/lab/editors")
    assert await auth.roles_in(await auth.access_token(browser), "lab") == []
    await realm.leave(person.id, "/ops")

    async def is_none() -> bool:
        return not await is_operator()

    await eventually(is_none, within=SOON, every=0.5)
    spa = await auth.newcomer()
    await realm.join(spa.id, "/lab/editors")
    assert await auth.roles_in(await realm.elsewhere(spa.id), "lab") == ["editor"]


async def test_registration_makes_an_account_that_logs_in_at_once(auth: Kit, realm: KeycloakRealm) -> None:
    person = await auth.register("Cher")
    shown = (await realm.admin("GET", f"/{realm.name}/users/{person.id}")).json()
    assert (shown["email"], shown["enabled"], shown["requiredActions"]) == (person.email, True, [])
    token = await auth.access_token(await auth.log_in(person))
    assert [each["slug"] for each in (await auth.me(token)).json()["workspaces"]] == [person.slug]


async def test_the_realms_own_rules_for_passwords_are_told_with_our_code(auth: Kit, realm: KeycloakRealm) -> None:
    policy = {"passwordPolicy": "length(10) and digits(1)"}
    before = (await realm.admin("GET", f"/{realm.name}")).json()["passwordPolicy"]
    await realm.admin("PUT", f"/{realm.name}", json=policy)
    try:
        body = {"email": f"{uuid4().hex}@example.com", "password": PASSWORD, "name": "New"}
        answer = await auth.browser().post("/auth/v1/register", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "weak_password")
        assert "digit" in answer.json()["errors"][0]["detail"]
    finally:
        await realm.admin("PUT", f"/{realm.name}", json={"passwordPolicy": before})


async def test_ten_wrong_passwords_lock_the_account_for_a_while(auth: Kit, realm: KeycloakRealm) -> None:
    person = await auth.newcomer()
    for _ in range(10):
        with pytest.raises(LookupError, match="Invalid username or password"):
            await realm.log_in(await login_url(auth), person.email, "not the password", object())
    with pytest.raises(LookupError, match=r"Invalid username or password|temporarily"):
        await realm.log_in(await login_url(auth), person.email, PASSWORD, object())
    status = await realm.admin("GET", f"/{realm.name}/attack-detection/brute-force/users/{person.id}")
    assert status.json()["disabled"] is True
    await realm.admin("DELETE", f"/{realm.name}/attack-detection/brute-force/users/{person.id}")
    await auth.log_in(person)


async def login_url(auth: Kit) -> str:
    begun = await auth.browser().get("/auth/v1/login")
    return begun.headers["location"]


@pytest.mark.parametrize("change", [{"code_challenge": None}, {"code_challenge_method": "plain"}])
async def test_a_login_without_pkce_does_not_begin(auth: Kit, realm: KeycloakRealm, change: dict[str, Any]) -> None:
    url = httpx.URL(await login_url(auth))
    params = {name: value for name, value in {**dict(url.params), **change}.items() if value is not None}
    async with httpx.AsyncClient() as client:
        answer = await client.get(str(url.copy_with(params=params)).replace(PUBLIC_URL, realm.url))
    assert answer.status_code == 302
    assert httpx.URL(answer.headers["location"]).params["error"] == "invalid_request"


@pytest.mark.parametrize(
    "uri", [f"{PUBLIC_URL}/auth/v1/callback/x", f"{PUBLIC_URL}/auth/v1/callback?x=1", "https://evil.example/"]
)
async def test_nobody_is_sent_anywhere_but_back(auth: Kit, realm: KeycloakRealm, uri: str) -> None:
    url = httpx.URL(await login_url(auth)).copy_merge_params({"redirect_uri": uri})
    async with httpx.AsyncClient() as client:
        answer = await client.get(str(url).replace(PUBLIC_URL, realm.url))
    assert answer.status_code == 400
    assert "location" not in answer.headers


async def test_no_tokens_are_given_for_a_password(auth: Kit, realm: KeycloakRealm) -> None:
    person = await auth.newcomer()
    form = {"grant_type": "password", "username": person.email, "password": PASSWORD, "client_id": "kgl-auth"}
    form["client_secret"] = auth.service.outside.settings.keycloak_secret
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{realm.url}/realms/{realm.name}/protocol/openid-connect/token", data=form)
    assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"keycloak_client_secret": "wrong"}, "KGL_KEYCLOAK_CLIENT_SECRET is refused"),
        ({"keycloak_client_id": "nobody"}, "KGL_KEYCLOAK_CLIENT_ID"),
        ({"keycloak_realm": "none"}, "KGL_KEYCLOAK_REALM: Keycloak has no realm 'none'"),
        ({"issuer": "https://id.example/realms/kgl"}, "KGL_ISSUER is https://id.example/realms/kgl"),
    ],
)
async def test_a_wrong_setting_ends_the_start_with_a_sentence_that_names_it(
    roles: Roles, realm: KeycloakRealm, changes: dict[str, str], sentence: str
) -> None:
    values = {**settings_of(realm), **changes}
    with pytest.raises(NotConfigured, match=sentence):
        async with keycloak_for_tests(roles, realm, None, **values):
            pass


async def test_a_service_account_without_its_roles_ends_the_start(roles: Roles, server: Login) -> None:
    async with realm_on(server) as realm:
        found = (await realm.admin("GET", f"/{realm.name}/clients?clientId=kgl-auth")).json()[0]["id"]
        account = (await realm.admin("GET", f"/{realm.name}/clients/{found}/service-account-user")).json()["id"]
        of = (await realm.admin("GET", f"/{realm.name}/clients?clientId=realm-management")).json()[0]["id"]
        place = f"/{realm.name}/users/{account}/role-mappings/clients/{of}"
        given = (await realm.admin("GET", place)).json()
        await realm.admin("DELETE", place, json=given)
        with pytest.raises(NotConfigured, match="view-users, manage-users and view-events"):
            async with keycloak_for_tests(roles, realm, None, **settings_of(realm)):
                pass


async def test_all_sessions_of_the_realm_are_ended_at_once(auth: Kit, realm: KeycloakRealm) -> None:
    tokens = [await auth.access_token(await auth.log_in(await auth.newcomer())) for _ in range(2)]
    await realm.admin("POST", f"/{realm.name}/logout-all")
    for token in tokens:
        await is_refused_soon(auth, token)
