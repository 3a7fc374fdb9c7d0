"""`python -m kgl_auth.first_owner`: what a first start makes, with secrets that were drawn elsewhere."""

import pytest

from kgl_auth.first_owner import FirstOwnerSettings, ensure
from kgl_auth.testing import AuthKit
from kgl_servicekit.identity.credential import ApiKey
from kgl_servicekit.settings import NotConfigured, settings_of

PASSWORD = "a long enough pass phrase"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, alone: AuthKit) -> dict[str, str]:
    values = {
        "KGL_ENV": "test",
        "KGL_DATABASE_URL": alone.service.settings.database_url.get_secret_value(),
        "KGL_BUS_URL": "postgresql://nobody:needed@127.0.0.1:1/here",
        "KGL_OWNER_PASSWORD": PASSWORD,
        "KGL_OWNER_API_KEY": ApiKey.generate().text,
        "KGL_READER_API_KEY": ApiKey.generate().text,
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


async def test_the_keys_that_were_drawn_open_the_system_and_a_second_run_changes_nothing(
    environment: dict[str, str], alone: AuthKit
) -> None:
    first = await ensure(settings_of(FirstOwnerSettings))
    assert await ensure(settings_of(FirstOwnerSettings)) == first
    owner = await alone.browser().get("/auth/v1/me", headers=_bearer(environment["KGL_OWNER_API_KEY"]))
    reader = await alone.browser().get(
        "/auth/v1/check", headers={**_bearer(environment["KGL_READER_API_KEY"]), "Kgl-Workspace": "lab"}
    )
    assert [workspace["slug"] for workspace in owner.json()["workspaces"]] == ["lab"]
    assert (reader.status_code, reader.json()["module"]) == (200, "reader")


async def test_another_key_that_was_drawn_for_a_known_owner_opens_it_too(
    environment: dict[str, str], alone: AuthKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ensure(settings_of(FirstOwnerSettings))
    other = ApiKey.generate().text
    monkeypatch.setenv("KGL_OWNER_API_KEY", other)
    await ensure(settings_of(FirstOwnerSettings))
    assert (await alone.browser().get("/auth/v1/me", headers=_bearer(other))).status_code == 200


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("KGL_OWNER_API_KEY", "kgl_short", "KGL_OWNER_API_KEY: no API key"),
        ("KGL_OWNER_PASSWORD", "", "set KGL_OWNER_PASSWORD"),
    ],
)
async def test_a_wrong_secret_is_named(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(NotConfigured, match=told):
        await ensure(settings_of(FirstOwnerSettings))


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
