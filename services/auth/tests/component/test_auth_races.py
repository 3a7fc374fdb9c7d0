"""What two make at the same time."""

import httpx

from kgl_auth.domain.identity import Module
from kgl_auth.testing import PASSWORD, AuthKit
from kgl_auth.use_cases.change_module import EnableModule, enable_module
from kgl_auth.use_cases.create_first_owner import CreateFirstOwner, create_first_owner
from kgl_auth.use_cases.register_user import RegisterUser, register_user
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.races import overlapping


async def test_two_first_enablements_of_a_module_are_two_versions(auth: AuthKit) -> None:
    person = await auth.register()
    headers = await auth.bearer(person)
    command = EnableModule(
        workspace_id=person.workspace,
        name="tagger",
        capabilities=("extract",),
        mode="required",
        deadline_seconds=60,
        precondition=lambda present: None,
    )
    later = auth.browser().put("/auth/v1/modules/tagger", json={"capabilities": ["embed"]}, headers=headers)
    results: tuple[Module, httpx.Response] = await overlapping(
        auth.database, person.workspace, enable_module, command, later
    )
    first, second = results
    assert (first.version, second.json()["version"], second.json()["capabilities"]) == (1, 2, ["embed"])
    read = await auth.browser().get("/auth/v1/modules/tagger", headers=headers)
    assert read.json() == second.json()


async def test_who_registers_the_first_owners_address_beside_the_first_start_is_the_first_owner(alone: AuthKit) -> None:
    first = CreateFirstOwner(email="owner@localhost", password=PASSWORD, name="Owner", workspace_slug="lab")
    registration = RegisterUser(user_id=uuid7(), email="owner@localhost", name="Somebody", password_hash="-")
    starting = alone.database.run((), create_first_owner, first)
    registered, owner = await overlapping(alone.database, (), register_user, registration, starting)
    assert (owner.user_id, owner.workspace_slug) == (registered.user.id, "lab")

    async def accounts(tx: Transaction, _: None) -> int:
        return int(await tx.fetchval("select count(*) from user_account"))

    assert await alone.database.run((), accounts, None) == 1
