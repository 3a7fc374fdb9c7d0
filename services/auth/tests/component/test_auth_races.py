"""What two make at the same time."""

import httpx

from kgl_auth.domain.identity import Module
from kgl_auth.testing import AuthKit
from kgl_auth.use_cases.change_module import EnableModule, enable_module
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
