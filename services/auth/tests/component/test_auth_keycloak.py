"""People whom Keycloak vouches for: at login, at first sight, and no longer."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from kgl_auth.bootstrap import MIGRATIONS, build
from kgl_auth.db import sessions
from kgl_auth.testing import PASSWORD, PUBLIC_URL, Person
from kgl_auth.testing_keycloak import FakeKeycloak, KeycloakKit, keycloak_for_tests, settings_with_keycloak
from kgl_auth.use_cases.create_first_owner import CreateFirstOwner, FirstOwner
from kgl_contracts.identity import MembershipChanged, SessionRevoked, UserRevoked
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.identity.permissions import INSTANCE_WORKSPACE
from kgl_servicekit.settings import NotConfigured
from kgl_servicekit.testing.postgres import PostgresForTests, Roles

Kit = KeycloakKit[FakeKeycloak]
ISSUER = f"{PUBLIC_URL}/realms/kgl"
ORIGIN = {"Origin": PUBLIC_URL}


@pytest.fixture(scope="module")
async def realm_roles(postgres: PostgresForTests) -> AsyncIterator[Roles]:
    """A database whose users are all Keycloak's; each test has people and a realm of its own."""
    async with postgres.database(MIGRATIONS) as roles:
        yield roles


@pytest.fixture
def lab() -> str:
    return f"lab-{uuid4().hex[:8]}"


@pytest.fixture
async def auth(realm_roles: Roles, lab: str) -> AsyncIterator[Kit]:
    group_roles = {
        "/lab/editors": {"workspace": lab, "roles": ["editor"]},
        "lab/owners": {"workspace": lab, "roles": ["owner"]},
        "operators": [{"instance": ["operator"]}, {"workspace": lab, "roles": ["viewer"]}],
        "elsewhere": {"workspace": "not-there-yet", "roles": ["viewer"]},
    }
    realm = FakeKeycloak(ISSUER)
    async with keycloak_for_tests(realm_roles, realm, realm, group_roles=group_roles) as kit:
        yield kit


async def first_owner(auth: Kit, lab: str) -> FirstOwner:
    command = CreateFirstOwner(email=f"Owner@{lab}.localhost", password=PASSWORD, name="Owner", workspace_slug=lab)
    return await auth.service.outside.accounts.create_first_owner(command)


async def revoked_of(auth: Kit, person: Person) -> list[UserRevoked]:
    return [event for event in await auth.emitted(UserRevoked) if event.user_id == person.id]


async def ended_of(auth: Kit, person: Person) -> list[str]:
    return [event.session_id for event in await auth.emitted(SessionRevoked) if event.user_id == person.id]


async def me(auth: Kit, token: str) -> httpx.Response:
    return await auth.browser().get("/auth/v1/me", headers={"Authorization": f"Bearer {token}"})


async def sid_of(auth: Kit, browser: httpx.AsyncClient) -> str:
    async def read(tx: Transaction, cookie: str) -> str:
        found = await sessions.find_browser_session(tx, cookie)
        assert found is not None
        return found.session_id

    return await auth.database.run((), read, browser.cookies["kgl_session"])


async def roles_in(auth: Kit, token: str, slug: str) -> list[str]:
    mine = (await me(auth, token)).json()["workspaces"]
    return sorted(role for each in mine if each["slug"] == slug for role in each["roles"])


async def test_a_first_login_makes_the_user_with_a_workspace_and_later_ones_take_over_name_and_address(
    auth: Kit,
) -> None:
    name = f"Grace Hopper {uuid4().hex[:6]}"
    slug = name.lower().replace(" ", "-")
    person = await auth.newcomer(name)
    seen = (await me(auth, await auth.access_token(await auth.log_in(person)))).json()
    assert (seen["user"]["id"], seen["user"]["email"], seen["user"]["name"]) == (
        str(person.id),
        person.email,
        name,
    )
    assert [(each["slug"], each["roles"]) for each in seen["workspaces"]] == [(slug, ["owner"])]
    user = auth.realm.users[person.id]
    user.name, user.email = "Rear Admiral\n Hopper", f"Grace@{slug}.example"
    again = (
        await me(auth, await auth.access_token(await auth.log_in(Person(person.id, user.email, person.id, ""))))
    ).json()
    assert (again["user"]["email"], again["user"]["name"]) == (f"grace@{slug}.example", "Rear Admiral Hopper")
    assert [each["slug"] for each in again["workspaces"]] == [slug]


async def test_an_address_that_somebody_had_before_gives_no_access_to_what_was_theirs(auth: Kit) -> None:
    person = await auth.newcomer()
    before = (await me(auth, await auth.access_token(await auth.log_in(person)))).json()["workspaces"]
    await auth.realm.delete(person.id)
    second = await auth.realm.create_user(person.email, "Ada Again", PASSWORD)
    seen = (await me(auth, await auth.access_token(await auth.log_in(Person(second, person.email, second, ""))))).json()
    assert seen["user"]["id"] == str(second)
    assert seen["user"]["email"] == person.email
    assert not {each["id"] for each in seen["workspaces"]} & {each["id"] for each in before}


async def test_a_session_of_another_client_is_looked_up_once_and_known_from_then_on(auth: Kit) -> None:
    person = await auth.newcomer()
    token = await auth.realm.elsewhere(person.id)
    first = await me(auth, token)
    assert first.status_code == 200, first.text
    assert [each["roles"] for each in first.json()["workspaces"]] == [["owner"]]
    auth.realm.asked.clear()
    auth.realm.out = True
    assert (await me(auth, token)).status_code == 200
    assert auth.realm.asked == []


async def test_many_first_requests_at_once_make_one_user_and_one_workspace(auth: Kit) -> None:
    person = await auth.newcomer()
    token = await auth.realm.elsewhere(person.id)
    answers = await asyncio.gather(*(me(auth, token) for _ in range(6)))
    assert [answer.status_code for answer in answers] == [200] * 6
    assert {len(answer.json()["workspaces"]) for answer in answers} == {1}


@pytest.mark.parametrize("how", ["disabled", "deleted", "logged out", "no session", "another's"])
async def test_a_session_that_does_not_go_on_at_keycloak_is_refused_at_first_sight(auth: Kit, how: str) -> None:
    person, other = await auth.newcomer(), await auth.newcomer()
    token = await auth.realm.elsewhere(person.id)
    if how == "disabled":
        await auth.realm.disable(person.id)
    elif how == "deleted":
        await auth.realm.delete(person.id)
    elif how == "logged out":
        await auth.realm.log_out_everywhere(person.id)
    elif how == "no session":
        token = auth.realm.token(person.id, None)
    else:
        token = auth.realm.token(other.id, next(iter(auth.realm.sessions)))
    answer = await me(auth, token)
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
async def test_what_is_no_access_token_of_this_realm_for_us_is_refused(auth: Kit, claims: dict[str, object]) -> None:
    person = await auth.newcomer()
    answer = await me(auth, await auth.realm.elsewhere(person.id, **claims))
    assert answer.status_code == 401
    assert answer.json()["code"] in {"token_invalid", "token_expired"}


async def test_twins_queue_so_that_keycloak_sees_each_refresh_token_once(auth: Kit) -> None:
    browser = await auth.log_in(await auth.newcomer())
    answers = await asyncio.gather(*(browser.post("/auth/v1/token", headers=ORIGIN) for _ in range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4
    await auth.access_token(browser)


async def test_a_turn_that_its_process_left_is_over_after_a_while(auth: Kit) -> None:
    browser = await auth.log_in(await auth.newcomer())

    async def leave(tx: Transaction, cookie: str) -> None:
        assert await sessions.take_turn(tx, (cookie, timedelta(seconds=1)))
        assert not await sessions.take_turn(tx, (cookie, timedelta(seconds=1)))

    await auth.database.run((), leave, browser.cookies["kgl_session"])
    await auth.access_token(browser)


async def test_a_second_login_in_the_same_browser_goes_on_in_the_session_that_keycloak_has(auth: Kit) -> None:
    person, browser = await auth.newcomer(), auth.browser()
    await auth.log_in(person, browser)
    first, cookie = await sid_of(auth, browser), browser.cookies["kgl_session"]
    await auth.log_in(person, browser)
    assert await sid_of(auth, browser) == first
    assert browser.cookies["kgl_session"] != cookie
    assert (await me(auth, await auth.access_token(browser))).status_code == 200
    browser.cookies.set("kgl_session", cookie)
    assert (await browser.post("/auth/v1/token", headers=ORIGIN)).status_code == 401


async def test_a_refused_refresh_logs_the_browser_out_and_a_new_login_goes_on(auth: Kit) -> None:
    person, browser = await auth.newcomer(), auth.browser()
    await auth.log_in(person, browser)
    auth.realm.instead["/token"] = httpx.Response(400, json={"error": "invalid_grant"})
    answer = await browser.post("/auth/v1/token", headers=ORIGIN)
    assert (answer.status_code, answer.json()["code"]) == (401, "not_logged_in")
    auth.realm.instead.clear()
    assert (await browser.post("/auth/v1/token", headers=ORIGIN)).status_code == 401
    await auth.log_in(person, browser)
    assert (await me(auth, await auth.access_token(browser))).status_code == 200


async def test_logout_ends_the_session_here_and_at_keycloak(auth: Kit) -> None:
    person, browser = await auth.newcomer(), auth.browser()
    await auth.log_in(person, browser)
    token, sid = await auth.access_token(browser), await sid_of(auth, browser)
    assert (await browser.post("/auth/v1/logout", headers=ORIGIN)).status_code == 204
    assert sid not in auth.realm.sessions
    assert (await me(auth, token)).json()["code"] == "session_ended"
    await auth.log_in(person, browser)
    assert (await me(auth, await auth.access_token(browser))).status_code == 200


async def test_a_logout_that_keycloak_could_not_be_told_is_made_up_for_at_the_next_login(auth: Kit) -> None:
    person, browser = await auth.newcomer(), auth.browser()
    await auth.log_in(person, browser)
    token, sid = await auth.access_token(browser), await sid_of(auth, browser)
    auth.realm.out = True
    assert (await browser.post("/auth/v1/logout", headers=ORIGIN)).status_code == 204
    assert (await me(auth, token)).json()["code"] == "session_ended"
    auth.realm.out = False
    assert sid in auth.realm.sessions
    refused = await auth.come_back(person, browser)
    assert (refused.status_code, "kgl_session" in browser.cookies) == (400, False)
    assert sid not in auth.realm.sessions
    await auth.log_in(person, browser)
    assert (await me(auth, await auth.access_token(browser))).status_code == 200


async def test_a_code_that_answers_another_request_or_is_made_up_opens_no_session(auth: Kit) -> None:
    person, browser = await auth.newcomer(), auth.browser()
    back = httpx.URL(await auth.way_back(person, browser))
    for changed in ({"code": "made-up"}, {"state": "another"}, {"error": "access_denied"}):
        other = back.copy_merge_params(changed)
        copy = auth.browser()
        copy.cookies.set("kgl_login", browser.cookies["kgl_login"], domain="localhost.local")
        answer = await copy.get(str(other))
        assert (answer.status_code, "kgl_session" in copy.cookies) == (400, False)


@pytest.mark.parametrize(
    "claims", [{"nonce": "x"}, {"aud": "spa"}, {"typ": "Bearer"}, {"iss": "http://x"}, {"sub": str(uuid4())}]
)
async def test_an_id_token_that_is_not_the_one_asked_for_opens_no_session(auth: Kit, claims: dict[str, str]) -> None:
    person, browser = await auth.newcomer(), auth.browser()
    back = await auth.way_back(person, browser)
    sid = next(iter(auth.realm.sessions))
    said = {"aud": "kgl-auth", "typ": "ID", "nonce": "x", **claims}
    given = {"access_token": auth.realm.token(person.id, sid), "refresh_token": "r", "expires_in": 300}
    for id_token in (auth.realm.token(person.id, sid, **said), "a.b.c", None):
        auth.realm.instead["/token"] = httpx.Response(200, json={**given, "id_token": id_token})
        assert (await browser.get(back)).status_code == 400
        assert "kgl_session" not in browser.cookies


async def test_while_keycloak_is_out_logins_wait_and_tokens_and_keys_go_on(auth: Kit, lab: str) -> None:
    owner = await first_owner(auth, lab)
    person, browser = await auth.newcomer(), auth.browser()
    await auth.log_in(person, browser)
    token, unseen = await auth.access_token(browser), await auth.realm.elsewhere(person.id)
    back = await auth.way_back(person, browser)
    auth.realm.out = True
    register = {"email": "x@example.com", "password": PASSWORD, "name": "X"}
    waiting = [
        await browser.get("/auth/v1/login"),
        await browser.get(back),
        await browser.post("/auth/v1/token", headers=ORIGIN),
        await auth.browser().post("/auth/v1/register", json=register),
        await me(auth, unseen),
    ]
    for answer in waiting:
        assert answer.status_code == 503, answer.text
        assert answer.json()["code"] == "identity_provider_unavailable"
        assert int(answer.headers["retry-after"]) >= 1
    assert (await me(auth, token)).status_code == 200
    assert (await me(auth, owner.api_key.key)).status_code == 200
    ready = await auth.browser().get("/health/ready")
    assert (ready.status_code, ready.json()["dependencies"]["keycloak"]["up"]) == (200, False)
    auth.realm.out = False
    assert (await browser.get(back)).status_code == 303
    await auth.access_token(browser)
    assert (await me(auth, unseen)).status_code == 200
    assert (await auth.browser().get("/health/ready")).json()["dependencies"]["keycloak"]["up"] is True


@pytest.mark.parametrize("answer", [httpx.Response(500), httpx.Response(200, text="no"), httpx.Response(401, json={})])
async def test_what_keycloak_should_not_answer_is_an_outage_and_no_refusal(auth: Kit, answer: httpx.Response) -> None:
    browser = await auth.log_in(await auth.newcomer())
    auth.realm.instead["/token"] = answer
    assert (await browser.post("/auth/v1/token", headers=ORIGIN)).status_code == 503
    auth.realm.instead.clear()
    await auth.access_token(browser)


async def test_registration_makes_the_account_at_keycloak_and_no_password_here(auth: Kit) -> None:
    person = await auth.register("Ada Lovelace")
    assert auth.realm.users[person.id].email == person.email
    seen = (await me(auth, await auth.access_token(await auth.log_in(person)))).json()
    assert [each["slug"] for each in seen["workspaces"]] == [person.slug]

    async def hashes(tx: Transaction, _: None) -> int:
        return int(await tx.fetchval("select count(*) from user_account where password_hash is not null"))

    assert await auth.database.run((), hashes, None) == 0


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
    auth: Kit, changes: dict[str, str], status: int, code: str
) -> None:
    await auth.realm.create_user("taken@example.com", "Taken", PASSWORD)
    body = {"email": "new@example.com", "password": PASSWORD, "name": "New", **changes}
    answer = await auth.browser().post("/auth/v1/register", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    if code == "weak_password":
        assert answer.json()["errors"][0]["pointer"] == "#/password"


async def test_closed_registration_makes_no_account_anywhere(realm_roles: Roles) -> None:
    realm = FakeKeycloak(ISSUER)
    async with keycloak_for_tests(realm_roles, realm, realm, open_registration=False) as auth:
        body = {"email": "new@example.com", "password": PASSWORD, "name": "New"}
        assert (await auth.browser().post("/auth/v1/register", json=body)).json()["code"] == "registration_closed"
        assert realm.users == {}


async def test_the_first_owner_has_the_account_at_keycloak_and_a_second_start_changes_nothing(
    auth: Kit, lab: str
) -> None:
    owner = await first_owner(auth, lab)
    assert auth.realm.users[owner.user_id].email == f"owner@{lab}.localhost"
    again = await first_owner(auth, lab)
    assert (again.user_id, again.workspace_id, again.api_key) == (owner.user_id, owner.workspace_id, None)
    assert len(auth.realm.users) == 1
    person = Person(owner.user_id, f"owner@{lab}.localhost", owner.workspace_id, lab)
    token = await auth.access_token(await auth.log_in(person))
    headers = {"Authorization": f"Bearer {token}", "Kgl-Workspace": lab}
    checked = (await auth.browser().get("/auth/v1/check", headers=headers)).json()
    assert {"instance:*", "documents:read"} <= set(checked["permissions"])


async def test_the_built_in_issuers_endpoints_name_the_issuer(auth: Kit) -> None:
    client = auth.browser()
    for path in (".well-known/openid-configuration", "jwks", "authorize", "userinfo", "logout"):
        answer = await client.get(f"/auth/v1/oidc/{path}")
        assert (answer.status_code, answer.json()["code"], answer.json()["issuer"]) == (404, "issued_elsewhere", ISSUER)
    answer = await client.post("/auth/v1/oidc/token", data={"grant_type": "authorization_code"})
    assert (answer.status_code, answer.json()["code"]) == (404, "issued_elsewhere")


# what administrators do there


async def test_a_disabled_user_is_put_out_of_all_sessions_seen_or_not(auth: Kit) -> None:
    person, other = await auth.newcomer(), await auth.newcomer()
    browser, bystander = await auth.log_in(person), await auth.log_in(other)
    token, sid = await auth.access_token(browser), await sid_of(auth, browser)
    await auth.watch.read()
    at = datetime.now(UTC)
    await auth.realm.disable(person.id)
    await auth.watch.read()
    assert (await me(auth, token)).json()["code"] == "session_ended"
    assert (await browser.post("/auth/v1/token", headers=ORIGIN)).status_code == 401
    assert await ended_of(auth, person) == [sid]
    [revoked] = await revoked_of(auth, person)
    assert (revoked.key_id, revoked.user_id) == (f"user:{person.id}", person.id)
    assert at < revoked.before < datetime.now(UTC) + timedelta(seconds=2)
    assert person.id not in auth.realm.sessions.values()
    await auth.access_token(bystander)


async def test_reading_the_same_events_again_or_in_two_workers_changes_nothing(auth: Kit) -> None:
    person = await auth.newcomer()
    await auth.log_in(person)
    await auth.watch.read()
    await auth.realm.disable(person.id)
    auth.watch._seen.clear()
    await asyncio.gather(auth.watch.read(), auth.watch.read())
    auth.watch._seen.clear()
    await auth.watch.read()
    assert len(await revoked_of(auth, person)) == 1
    assert len(await ended_of(auth, person)) == 1


async def test_a_user_who_was_enabled_again_logs_in_anew(auth: Kit) -> None:
    person, browser = await auth.newcomer(), auth.browser()
    await auth.log_in(person, browser)
    await auth.watch.read()
    await auth.realm.disable(person.id)
    await auth.watch.read()
    auth.realm.users[person.id].enabled = True

    async def long_ago(tx: Transaction, user_id: UUID) -> None:
        await tx.execute("update user_account set revoked_before = now() - interval '1 minute' where id = $1", user_id)

    await auth.database.run((), long_ago, person.id)
    await auth.log_in(person, browser)
    assert (await me(auth, await auth.access_token(browser))).status_code == 200


async def test_a_login_that_was_under_way_while_its_user_was_put_out_is_refused(auth: Kit) -> None:
    person = await auth.newcomer()
    await auth.log_in(person)
    token = await auth.realm.elsewhere(person.id, iat=int(time.time()) - 5)
    await auth.watch.read()
    auth.realm.admin_event("ACTION", "USER", f"users/{person.id}/logout")
    await auth.watch.read()
    assert (await me(auth, token)).json()["code"] == "session_ended"


async def test_a_deleted_user_and_one_who_is_logged_out_are_put_out(auth: Kit) -> None:
    for act in (auth.realm.delete, auth.realm.log_out_everywhere):
        person = await auth.newcomer()
        token = await auth.access_token(await auth.log_in(person))
        await auth.watch.read()
        await act(person.id)
        await auth.watch.read()
        assert (await me(auth, token)).json()["code"] == "session_ended"


async def test_the_end_of_one_session_leaves_the_others(auth: Kit) -> None:
    person = await auth.newcomer()
    first, second = await auth.log_in(person), await auth.log_in(person)
    tokens = [await auth.access_token(browser) for browser in (first, second)]
    await auth.watch.read()
    await auth.realm.end_session(await sid_of(auth, first))
    await auth.watch.read()
    assert [(await me(auth, token)).status_code for token in tokens] == [401, 200]
    assert await revoked_of(auth, person) == []


async def test_a_logout_at_another_client_ends_a_session_that_was_never_seen_here(auth: Kit) -> None:
    person = await auth.newcomer()
    await auth.log_in(person)
    token = await auth.realm.elsewhere(person.id)
    sid = list(auth.realm.sessions)[-1]
    await auth.watch.read()
    await auth.realm.log_out_of(sid)
    await auth.watch.read()
    assert await ended_of(auth, person) == [sid]
    assert (await me(auth, token)).json()["code"] == "session_ended"


async def test_everybody_is_put_out_when_an_administrator_ends_all_sessions(auth: Kit) -> None:
    tokens = [await auth.access_token(await auth.log_in(await auth.newcomer())) for _ in range(3)]
    await auth.watch.read()
    auth.realm.admin_event("ACTION", "REALM", "logout-all")
    await auth.watch.read()
    assert [(await me(auth, token)).status_code for token in tokens] == [401] * 3


async def test_what_happened_during_an_outage_is_read_when_it_is_over(auth: Kit) -> None:
    person = await auth.newcomer()
    token = await auth.access_token(await auth.log_in(person))
    await auth.watch.read()
    auth.realm.out = True
    with pytest.raises(Exception, match="Keycloak cannot be asked"):
        await auth.watch.read()
    await auth.realm.disable(person.id)
    auth.realm.out = False
    await auth.watch.read()
    assert (await me(auth, token)).json()["code"] == "session_ended"


async def test_after_days_without_a_look_everybody_with_a_login_is_looked_at(auth: Kit) -> None:
    async def forget(tx: Transaction, _: None) -> None:
        await tx.execute("update provider_position set read_to = read_to - interval '2 days'")

    await auth.watch.read()
    await auth.database.run((), forget, None)
    auth.watch._read_at = None
    people = [await auth.newcomer() for _ in range(3)]
    tokens = [await auth.access_token(await auth.log_in(person)) for person in people]
    auth.realm.users[people[0].id].enabled = False
    del auth.realm.users[people[2].id]
    await auth.watch.read()
    assert [(await me(auth, token)).status_code for token in tokens] == [401, 200, 401]


async def test_more_events_than_a_page_are_all_read(auth: Kit) -> None:
    person = await auth.newcomer()
    token = await auth.access_token(await auth.log_in(person))
    await auth.watch.read()
    for _ in range(250):
        auth.realm.admin_event("CREATE", "USER", f"users/{uuid4()}/role-mappings/realm")
    await auth.realm.disable(person.id)
    await auth.watch.read()
    assert (await me(auth, token)).json()["code"] == "session_ended"


@pytest.mark.parametrize("path", ["users", "users/nobody", "users/{}/impersonation/x/y", "", "sessions"])
async def test_an_event_that_says_nothing_is_passed_over(auth: Kit, path: str) -> None:
    await auth.watch.read()
    before = len(await auth.emitted(UserRevoked))
    for kind in ("USER", "GROUP_MEMBERSHIP", "USER_SESSION", "REALM", "CLIENT"):
        auth.realm.admin_event("UPDATE", kind, path.format(uuid4()))
    auth.realm._record(auth.realm.user_events, type="LOGOUT")
    await auth.watch.read()
    assert len(await auth.emitted(UserRevoked)) == before


# roles by groups


async def test_groups_give_roles_at_login_and_take_back_what_they_gave_at_the_next_token(auth: Kit, lab: str) -> None:
    owner = await first_owner(auth, lab)
    person, browser = await auth.newcomer(), auth.browser()
    for group in ("/lab/editors", "/operators", "/elsewhere", "/unknown"):
        await auth.realm.join(person.id, group)
    await auth.log_in(person, browser)
    token = await auth.access_token(browser)
    assert await roles_in(auth, token, lab) == ["editor", "viewer"]
    bare = {"Authorization": f"Bearer {token}"}
    assert "instance:*" in (await auth.browser().get("/auth/v1/check", headers=bare)).json()["permissions"]
    await auth.realm.leave(person.id, "/lab/editors")
    await auth.realm.leave(person.id, "/operators")
    token = await auth.access_token(browser)
    assert await roles_in(auth, token, lab) == []
    bare = {"Authorization": f"Bearer {token}"}
    assert (await auth.browser().get("/auth/v1/check", headers=bare)).json()["permissions"] == []
    told = [e for e in await auth.emitted(MembershipChanged) if e.user_id == person.id]
    assert {(e.workspace_id, e.deleted) for e in told} >= {
        (owner.workspace_id, False),
        (owner.workspace_id, True),
        (INSTANCE_WORKSPACE, True),
    }


async def test_a_role_that_somebody_gave_here_stays_when_the_group_goes(auth: Kit, lab: str) -> None:
    owner = await first_owner(auth, lab)
    person, browser = await auth.newcomer(), auth.browser()
    await auth.log_in(person, browser)
    headers = {"Authorization": f"Bearer {owner.api_key.key}"}
    member = f"/auth/v1/workspaces/{owner.workspace_id}/members/{person.id}"
    put = await auth.browser().put(member, json={"roles": ["editor", "reviewer"]}, headers=headers)
    assert put.status_code == 200, put.text
    await auth.realm.join(person.id, "/lab/editors")
    await auth.realm.join(person.id, "/operators")
    assert await roles_in(auth, await auth.access_token(browser), lab) == ["editor", "reviewer", "viewer"]
    await auth.realm.leave(person.id, "/lab/editors")
    await auth.realm.leave(person.id, "/operators")
    assert await roles_in(auth, await auth.access_token(browser), lab) == ["editor", "reviewer"]


async def test_a_change_of_groups_is_taken_over_by_the_loop_without_a_new_token(auth: Kit, lab: str) -> None:
    await first_owner(auth, lab)
    person = await auth.newcomer()
    token = await auth.access_token(await auth.log_in(person))
    await auth.watch.read()
    await auth.realm.join(person.id, "/lab/editors")
    await auth.watch.read()
    assert await roles_in(auth, token, lab) == ["editor"]
    await auth.realm.leave(person.id, "/lab/editors")
    await auth.watch.read()
    assert await roles_in(auth, token, lab) == []
    await auth.realm.join(person.id, "/lab/editors")
    await auth.watch.read()
    auth.realm.users[person.id].groups.clear()
    auth.realm.admin_event("DELETE", "GROUP", f"groups/{uuid4()}")
    await auth.watch.read()
    assert await roles_in(auth, token, lab) == []


async def test_the_last_owner_stays_when_the_group_goes(auth: Kit, lab: str) -> None:
    owner = await first_owner(auth, lab)
    person, browser = await auth.newcomer(), auth.browser()
    await auth.realm.join(person.id, "/lab/owners")
    await auth.log_in(person, browser)

    async def abdicate(tx: Transaction, user_id: UUID) -> None:
        await tx.execute("delete from membership where workspace_id = $1 and user_id = $2", owner.workspace_id, user_id)

    await auth.database.run((), abdicate, owner.user_id)
    await auth.realm.leave(person.id, "/lab/owners")
    assert await roles_in(auth, await auth.access_token(browser), lab) == ["owner"]


async def test_the_groups_of_a_session_from_another_client_are_asked_for(auth: Kit, lab: str) -> None:
    await first_owner(auth, lab)
    person = await auth.newcomer()
    await auth.realm.join(person.id, "/lab/editors")
    assert await roles_in(auth, await auth.realm.elsewhere(person.id, groups=None), lab) == ["editor"]


# what an operator may have set wrong


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"keycloak_client_secret": "wrong"}, "KGL_KEYCLOAK_CLIENT_SECRET is refused"),
        ({"keycloak_client_id": "nobody"}, "KGL_KEYCLOAK_CLIENT_ID"),
        ({"keycloak_realm": "other"}, "KGL_KEYCLOAK_REALM: Keycloak has no realm 'other'"),
        ({"issuer": "https://id.example/realms/kgl"}, "KGL_ISSUER is https://id.example/realms/kgl"),
    ],
)
async def test_a_wrong_setting_ends_the_start_with_a_sentence_that_names_it(
    realm_roles: Roles, changes: dict[str, str], sentence: str
) -> None:
    realm = FakeKeycloak(ISSUER)
    with pytest.raises(NotConfigured, match=sentence):
        async with keycloak_for_tests(realm_roles, realm, realm, **changes):
            pass


async def test_a_service_account_without_its_roles_ends_the_start(realm_roles: Roles) -> None:
    realm = FakeKeycloak(ISSUER)
    realm.instead["/admin-events"] = httpx.Response(403, json={"error": "HTTP 403 Forbidden"})
    with pytest.raises(NotConfigured, match="view-users, manage-users and view-events"):
        async with keycloak_for_tests(realm_roles, realm, realm):
            pass


async def test_a_start_while_keycloak_is_out_is_none_of_the_operators_mistakes(realm_roles: Roles) -> None:
    realm = FakeKeycloak(ISSUER)
    realm.out = True
    async with keycloak_for_tests(realm_roles, realm, realm) as auth:
        realm.out = False
        assert (await me(auth, await auth.access_token(await auth.log_in(await auth.newcomer())))).status_code == 200


@pytest.mark.parametrize("secret", ["", None])
def test_there_is_no_client_without_a_secret(secret: str | None) -> None:
    roles = Roles.__new__(Roles)
    object.__setattr__(roles, "service", "postgresql://x")
    with pytest.raises(ValueError, match="set KGL_KEYCLOAK_CLIENT_SECRET"):
        build(settings_with_keycloak(roles, keycloak_client_secret=secret), MemoryBus())
