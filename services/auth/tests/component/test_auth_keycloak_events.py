"""What administrators do at Keycloak puts people out here."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from kgl_auth.testing import PUBLIC_URL
from kgl_auth.testing_fake_keycloak import FakeKeycloak
from kgl_auth.testing_keycloak import KeycloakKit
from kgl_contracts.identity import UserRevoked
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Unavailable

Kit = KeycloakKit[FakeKeycloak]
ORIGIN = {"Origin": PUBLIC_URL}


async def test_a_disabled_user_is_put_out_of_all_sessions_seen_or_not(keycloak: Kit) -> None:
    person, other = await keycloak.newcomer(), await keycloak.newcomer()
    browser, bystander = await keycloak.log_in(person), await keycloak.log_in(other)
    token, sid = await keycloak.access_token(browser), await keycloak.sid_of(browser)
    await keycloak.watch.read()
    at = datetime.now(UTC)
    await keycloak.realm.disable(person.id)
    await keycloak.watch.read()
    assert (await keycloak.me(token)).json()["code"] == "session_ended"
    assert (await browser.post("/auth/v1/token", headers=ORIGIN)).status_code == 401
    assert await keycloak.ended_of(person) == [sid]
    [revoked] = await keycloak.revocations_of(person)
    assert (revoked.key_id, revoked.user_id) == (f"user:{person.id}", person.id)
    assert at < revoked.before < datetime.now(UTC) + timedelta(seconds=2)
    assert person.id not in keycloak.realm.sessions.values()
    await keycloak.access_token(bystander)


async def test_reading_the_same_events_again_or_in_two_workers_changes_nothing(keycloak: Kit) -> None:
    person = await keycloak.newcomer()
    await keycloak.log_in(person)
    await keycloak.watch.read()
    await keycloak.realm.disable(person.id)
    keycloak.watch._seen.clear()
    await asyncio.gather(keycloak.watch.read(), keycloak.watch.read())
    keycloak.watch._seen.clear()
    await keycloak.watch.read()
    assert len(await keycloak.revocations_of(person)) == 1
    assert len(await keycloak.ended_of(person)) == 1


async def test_of_several_events_of_a_user_the_last_one_says_which_tokens_are_too_old(keycloak: Kit) -> None:
    person = await keycloak.newcomer()
    await keycloak.log_in(person)
    await keycloak.watch.read()
    keycloak.realm.admin_event("CREATE", "USER", f"users/{person.id}")
    keycloak.realm.admin_events[-1]["time"] -= 20_000
    await keycloak.realm.disable(person.id)
    await keycloak.watch.read()
    [disabled] = [event for event in keycloak.realm.admin_events if event["operationType"] == "UPDATE"]
    [revoked] = await keycloak.revocations_of(person)
    assert revoked.before.timestamp() * 1000 > disabled["time"]


async def test_what_could_not_be_taken_in_is_taken_in_the_next_time(keycloak: Kit) -> None:
    person = await keycloak.newcomer()
    token = await keycloak.access_token(await keycloak.log_in(person))
    await keycloak.watch.read()
    await keycloak.realm.disable(person.id)
    keycloak.realm.instead[f"/users/{person.id}"] = httpx.Response(500)
    with pytest.raises(Unavailable):
        await keycloak.watch.read()
    keycloak.realm.instead.clear()
    await keycloak.watch.read()
    assert (await keycloak.me(token)).json()["code"] == "session_ended"


async def test_a_user_who_was_enabled_again_logs_in_anew(keycloak: Kit) -> None:
    person, browser = await keycloak.newcomer(), keycloak.browser()
    await keycloak.log_in(person, browser)
    await keycloak.watch.read()
    await keycloak.realm.disable(person.id)
    await keycloak.watch.read()
    keycloak.realm.users[person.id].enabled = True

    async def long_ago(tx: Transaction, user_id: UUID) -> None:
        await tx.execute("update user_account set revoked_before = now() - interval '1 minute' where id = $1", user_id)

    await keycloak.database.run((), long_ago, person.id)
    await keycloak.log_in(person, browser)
    assert (await keycloak.me(await keycloak.access_token(browser))).status_code == 200


async def test_a_login_that_was_under_way_while_its_user_was_put_out_is_refused(keycloak: Kit) -> None:
    person = await keycloak.newcomer()
    await keycloak.log_in(person)
    token = await keycloak.realm.elsewhere(person.id, iat=int(time.time()) - 5)
    await keycloak.watch.read()
    keycloak.realm.admin_event("ACTION", "USER", f"users/{person.id}/logout")
    await keycloak.watch.read()
    assert (await keycloak.me(token)).json()["code"] == "session_ended"


async def test_a_deleted_user_and_one_who_is_logged_out_are_put_out(keycloak: Kit) -> None:
    for act in (keycloak.realm.delete, keycloak.realm.log_out_everywhere):
        person = await keycloak.newcomer()
        token = await keycloak.access_token(await keycloak.log_in(person))
        await keycloak.watch.read()
        await act(person.id)
        await keycloak.watch.read()
        assert (await keycloak.me(token)).json()["code"] == "session_ended"


async def test_the_end_of_one_session_leaves_the_others(keycloak: Kit) -> None:
    person = await keycloak.newcomer()
    first, second = await keycloak.log_in(person), await keycloak.log_in(person)
    tokens = [await keycloak.access_token(browser) for browser in (first, second)]
    await keycloak.watch.read()
    await keycloak.realm.end_session(await keycloak.sid_of(first))
    await keycloak.watch.read()
    assert [(await keycloak.me(token)).status_code for token in tokens] == [401, 200]
    assert await keycloak.revocations_of(person) == []


async def test_a_logout_at_another_client_ends_a_session_that_was_never_seen_here(keycloak: Kit) -> None:
    person = await keycloak.newcomer()
    await keycloak.log_in(person)
    token = await keycloak.realm.elsewhere(person.id)
    sid = list(keycloak.realm.sessions)[-1]
    await keycloak.watch.read()
    await keycloak.realm.log_out_of(sid)
    await keycloak.watch.read()
    assert await keycloak.ended_of(person) == [sid]
    assert (await keycloak.me(token)).json()["code"] == "session_ended"


async def test_everybody_is_put_out_when_an_administrator_ends_all_sessions(keycloak: Kit) -> None:
    tokens = [await keycloak.access_token(await keycloak.log_in(await keycloak.newcomer())) for _ in range(3)]
    await keycloak.watch.read()
    keycloak.realm.admin_event("ACTION", "REALM", "logout-all")
    await keycloak.watch.read()
    assert [(await keycloak.me(token)).status_code for token in tokens] == [401] * 3


async def test_what_happened_during_an_outage_is_read_when_it_is_over(keycloak: Kit) -> None:
    person = await keycloak.newcomer()
    token = await keycloak.access_token(await keycloak.log_in(person))
    await keycloak.watch.read()
    keycloak.realm.out = True
    with pytest.raises(Exception, match="Keycloak cannot be asked"):
        await keycloak.watch.read()
    await keycloak.realm.disable(person.id)
    keycloak.realm.out = False
    await keycloak.watch.read()
    assert (await keycloak.me(token)).json()["code"] == "session_ended"


async def test_after_days_without_a_look_everybody_with_a_login_is_looked_at(keycloak: Kit) -> None:
    async def forget(tx: Transaction, _: None) -> None:
        await tx.execute("update provider_position set read_to = read_to - interval '2 days'")

    await keycloak.watch.read()
    await keycloak.database.run((), forget, None)
    keycloak.watch._read_at = None
    people = [await keycloak.newcomer() for _ in range(3)]
    tokens = [await keycloak.access_token(await keycloak.log_in(person)) for person in people]
    keycloak.realm.users[people[0].id].enabled = False
    del keycloak.realm.users[people[2].id]
    await keycloak.watch.read()
    assert [(await keycloak.me(token)).status_code for token in tokens] == [401, 200, 401]


async def test_more_events_than_a_page_are_all_read(keycloak: Kit) -> None:
    person = await keycloak.newcomer()
    token = await keycloak.access_token(await keycloak.log_in(person))
    await keycloak.watch.read()
    for _ in range(250):
        keycloak.realm.admin_event("CREATE", "USER", f"users/{uuid4()}/role-mappings/realm")
    await keycloak.realm.disable(person.id)
    await keycloak.watch.read()
    assert (await keycloak.me(token)).json()["code"] == "session_ended"


@pytest.mark.parametrize("path", ["users", "users/nobody", "users/{}/impersonation/x/y", "", "sessions"])
async def test_an_event_that_says_nothing_is_passed_over(keycloak: Kit, path: str) -> None:
    await keycloak.watch.read()
    before = len(await keycloak.emitted(UserRevoked))
    for kind in ("USER", "GROUP_MEMBERSHIP", "USER_SESSION", "REALM", "CLIENT"):
        keycloak.realm.admin_event("UPDATE", kind, path.format(uuid4()))
    keycloak.realm._record(keycloak.realm.user_events, type="LOGOUT")
    await keycloak.watch.read()
    assert len(await keycloak.emitted(UserRevoked)) == before
