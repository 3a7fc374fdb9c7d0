"""`kgl module register`: what a module is granted, what is refused, and how it is enabled."""

import json
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from kgl_cli.main import app
from kgl_cli.module import ModuleSettings, enable, granted_topics
from kgl_client.api import Api
from kgl_contracts.topics import AI, CONTENT, DOCUMENTS
from kgl_servicekit.settings import NotConfigured, settings_of


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGL_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def test_a_capability_brings_its_topics_and_others_are_granted_by_name() -> None:
    assert granted_topics(["extract"], ["kgl.content"]) == [AI, DOCUMENTS, CONTENT]


@pytest.mark.parametrize(
    ("capabilities", "topics", "told"),
    [(["sing"], [], "sing is no capability; there are extract, summarise"), ([], ["kgl.x"], "kgl.x is no topic")],
)
def test_what_there_is_none_of_is_told_with_what_there_is(
    capabilities: list[str], topics: list[str], told: str
) -> None:
    with pytest.raises(NotConfigured, match=told):
        granted_topics(capabilities, topics)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["tagger"], "say what the module is for"),
        (["tagger", "--kafka"], "say what the module is for"),
        (["tagger", "--kafka", "--topic", "kgl.content"], "set KGL_KAFKA_ADMIN_PASSWORD"),
    ],
)
def test_what_an_operator_has_to_mend_is_one_line(arguments: list[str], told: str) -> None:
    done = CliRunner().invoke(app, ["module", "register", *arguments])
    assert done.exit_code == 1
    assert done.stdout == ""
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_credentials_it_is_said_what_enables_the_module() -> None:
    done = CliRunner().invoke(app, ["module", "register", "tagger", "--capability", "extract"])
    assert done.exit_code == 0
    assert "no credentials.json for http://localhost:8080; PUT /auth/v1/modules/tagger does that" in done.stderr


def test_the_administrator_is_that_of_the_folder_s_env_file_and_comes_from_outside(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("KGL_KAFKA_ADMIN_PASSWORD=hush\nKGL_OTHER=x\n")
    settings = settings_of(ModuleSettings)
    assert settings.kafka_admin_password.get_secret_value() == "hush"
    assert (settings.kafka_admin_bootstrap, settings.kafka_admin_mechanism) == ("localhost:9094", "SCRAM-SHA-512")


def test_an_administrator_s_listener_that_is_named_takes_plain_logins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGL_KAFKA_ADMIN_PASSWORD", "hush")
    monkeypatch.setenv("KGL_KAFKA_ADMIN_BOOTSTRAP", "kafka:9095")
    settings = settings_of(ModuleSettings)
    assert (settings.kafka_admin_bootstrap, settings.kafka_admin_mechanism) == ("kafka:9095", "PLAIN")


async def test_a_module_is_enabled_by_auth_and_its_refusal_is_told() -> None:
    seen: list[tuple[str, str, object]] = []

    def auth(request: httpx.Request) -> httpx.Response:
        seen.append((request.method, request.url.path, json.loads(request.content)))
        if len(seen) == 1:
            return httpx.Response(200, json={})
        return httpx.Response(403, json={"code": "forbidden", "detail": "ask an owner"})

    async with Api("http://edge", "key", transport=httpx.MockTransport(auth)) as api:
        await enable(api, "tagger", ["summarise", "extract", "extract"], "optional")
        with pytest.raises(NotConfigured, match=r"tagger is not enabled.*ask an owner"):
            await enable(api, "tagger", ["extract"], "required")
    assert seen[0] == (
        "PUT",
        "/auth/v1/modules/tagger",
        {"capabilities": ["extract", "summarise"], "mode": "optional"},
    )
