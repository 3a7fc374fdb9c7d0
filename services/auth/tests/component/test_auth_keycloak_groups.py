"""Groups of Keycloak become roles here, and go with them."""

from uuid import UUID, uuid4

from kgl_auth.testing_fake_keycloak import FakeKeycloak
from kgl_auth.testing_keycloak import KeycloakKit
from kgl_contracts.identity import MembershipChanged
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.identity.permissions import INSTANCE_WORKSPACE

Kit = KeycloakKit[FakeKeycloak]


async def test_groups_give_roles_at_login_and_take_back_what_they_gave_at_the_next_token(
    keycloak: Kit, lab: str
) -> None:
    owner = await keycloak.first_owner(lab)
    person, browser = await keycloak.newcomer(), keycloak.browser()
    for group in ("/lab/editors", "/operators", "/elsewhere", "/unknown"):
        await keycloak.realm.join(person.id, group)
    await keycloak.log_in(person, browser)
    token = await keycloak.access_token(browser)
    assert await keycloak.roles_in(token, lab) == ["editor", "viewer"]
    bare = {"Authorization": f"Bearer {token}"}
    assert "instance:*" in (await keycloak.browser().get("/auth/v1/check", headers=bare)).json()["permissions"]
    await keycloak.realm.leave(person.id, "/lab/editors")
    await keycloak.realm.leave(person.id, "/operators")
    token = await keycloak.access_token(browser)
    assert await keycloak.roles_in(token, lab) == []
    bare = {"Authorization": f"Bearer {token}"}
    assert (await keycloak.browser().get("/auth/v1/check", headers=bare)).json()["permissions"] == []
    told = [e for e in await keycloak.emitted(MembershipChanged) if e.user_id == person.id]
    assert {(e.workspace_id, e.deleted) for e in told} >= {
        (owner.workspace_id, False),
        (owner.workspace_id, True),
        (INSTANCE_WORKSPACE, True),
    }


async def test_a_role_that_somebody_gave_here_stays_when_the_group_goes(keycloak: Kit, lab: str) -> None:
    owner = await keycloak.first_owner(lab)
    person, browser = await keycloak.newcomer(), keycloak.browser()
    await keycloak.log_in(person, browser)
    headers = {"Authorization": f"Bearer {owner.api_key.key}"}
    member = f"/auth/v1/workspaces/{owner.workspace_id}/members/{person.id}"
    put = await keycloak.browser().put(member, json={"roles": ["editor", "reviewer"]}, headers=headers)
    assert put.status_code == 200, put.text
    await keycloak.realm.join(person.id, "/lab/editors")
    await keycloak.realm.join(person.id, "/operators")
    assert await keycloak.roles_in(await keycloak.access_token(browser), lab) == ["editor", "reviewer", "viewer"]
    await keycloak.realm.leave(person.id, "/lab/editors")
    await keycloak.realm.leave(person.id, "/operators")
    assert await keycloak.roles_in(await keycloak.access_token(browser), lab) == ["editor", "reviewer"]


async def test_a_change_of_groups_is_taken_over_by_the_loop_without_a_new_token(keycloak: Kit, lab: str) -> None:
    await keycloak.first_owner(lab)
    person = await keycloak.newcomer()
    token = await keycloak.access_token(await keycloak.log_in(person))
    await keycloak.watch.read()
    await keycloak.realm.join(person.id, "/lab/editors")
    await keycloak.watch.read()
    assert await keycloak.roles_in(token, lab) == ["editor"]
    await keycloak.realm.leave(person.id, "/lab/editors")
    await keycloak.watch.read()
    assert await keycloak.roles_in(token, lab) == []
    await keycloak.realm.join(person.id, "/lab/editors")
    await keycloak.watch.read()
    keycloak.realm.users[person.id].groups.clear()
    keycloak.realm.admin_event("DELETE", "GROUP", f"groups/{uuid4()}")
    await keycloak.watch.read()
    assert await keycloak.roles_in(token, lab) == []


async def test_the_last_owner_stays_when_the_group_goes(keycloak: Kit, lab: str) -> None:
    owner = await keycloak.first_owner(lab)
    person, browser = await keycloak.newcomer(), keycloak.browser()
    await keycloak.realm.join(person.id, "/lab/owners")
    await keycloak.log_in(person, browser)

    async def abdicate(tx: Transaction, user_id: UUID) -> None:
        await tx.execute("delete from membership where workspace_id = $1 and user_id = $2", owner.workspace_id, user_id)

    await keycloak.database.run((), abdicate, owner.user_id)
    await keycloak.realm.leave(person.id, "/lab/owners")
    assert await keycloak.roles_in(await keycloak.access_token(browser), lab) == ["owner"]


async def test_the_groups_of_a_session_from_another_client_are_asked_for(keycloak: Kit, lab: str) -> None:
    await keycloak.first_owner(lab)
    person = await keycloak.newcomer()
    await keycloak.realm.join(person.id, "/lab/editors")
    assert await keycloak.roles_in(await keycloak.realm.elsewhere(person.id, groups=None), lab) == ["editor"]
