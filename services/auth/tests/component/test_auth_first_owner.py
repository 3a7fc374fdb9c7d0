"""The first start of an installation."""

from dataclasses import replace

import pytest

from kgl_auth.problems import SlugTaken
from kgl_auth.testing import PASSWORD, AuthKit, Person
from kgl_auth.use_cases.create_first_owner import CreateFirstOwner, create_first_owner
from kgl_contracts.identity import MembershipChanged
from kgl_servicekit.identity.permissions import INSTANCE_WORKSPACE, PERMISSIONS

FIRST = CreateFirstOwner(email="Owner@localhost", password=PASSWORD, name="Owner", workspace_slug="lab")


async def test_the_first_owner_can_log_in_has_a_key_and_is_the_operator(alone: AuthKit) -> None:
    owner = await alone.database.run((), create_first_owner, FIRST)
    assert owner.api_key is not None
    headers = {"Authorization": f"Bearer {owner.api_key.key}"}
    checked = (await alone.browser().get("/auth/v1/check", headers=headers)).json()
    assert checked["workspace_id"] == str(owner.workspace_id)
    assert set(checked["permissions"]) == {*PERMISSIONS, "instance:*"}
    person = Person(owner.user_id, "owner@localhost", owner.workspace_id, "lab")
    checked = (await alone.browser().get("/auth/v1/check", headers=await alone.bearer(person))).json()
    assert set(checked["permissions"]) == {*PERMISSIONS, "instance:*"}
    mine = (await alone.browser().get("/auth/v1/workspaces", headers=await alone.bearer(person))).json()["items"]
    assert [each["slug"] for each in mine] == ["lab"]
    told = [event for event in await alone.emitted(MembershipChanged) if event.workspace_id == INSTANCE_WORKSPACE]
    assert [(event.user_id, event.permissions) for event in told] == [(owner.user_id, ("instance:*",))]


async def test_a_second_start_changes_nothing_and_shows_no_secret(auth: AuthKit) -> None:
    first = await auth.database.run((), create_first_owner, FIRST)
    before = len(await auth.emitted(MembershipChanged))
    again = await auth.database.run((), create_first_owner, FIRST)
    assert first.api_key is not None
    assert again == replace(first, api_key=None)
    assert len(await auth.emitted(MembershipChanged)) == before


async def test_a_workspace_of_somebody_else_is_not_taken_over(auth: AuthKit) -> None:
    stranger = await auth.register()
    command = CreateFirstOwner(email="x@localhost", password=PASSWORD, name="X", workspace_slug=stranger.slug)
    with pytest.raises(SlugTaken):
        await auth.database.run((), create_first_owner, command)


async def test_the_commands_text_shows_no_password() -> None:
    assert PASSWORD not in repr(FIRST)
