"""`kgl module`: modules that are registered by the operator."""

import secrets
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import typer
from pydantic import model_validator
from pydantic_settings import SettingsConfigDict

from kgl_cli.home import Home, HomeRefused
from kgl_cli.setup.kafka import KafkaAdminSettings, Wanted, administrated, reconcile
from kgl_cli.setup.kafka_rights import rights_of_module, user_of_module
from kgl_cli.setup.kafka_topics import Topics
from kgl_cli.setup.telling import told
from kgl_client.api import Api, ApiProblem, ApiUnreachable
from kgl_contracts.rights import CAPABILITY_TOPICS
from kgl_contracts.topics import BY_NAME, Topic
from kgl_servicekit.settings import NotConfigured, Settings, settings_of

module = typer.Typer(help="Modules: let one in.", no_args_is_help=True)
_OUTSIDE = "localhost:9094"
Tell = Callable[[str], None]


class ModuleSettings(KafkaAdminSettings):
    """The administrator as the environment says, or as the `.env` of the stack in this folder does.

    Without KGL_KAFKA_ADMIN_BOOTSTRAP it is reached from outside of the stack, where it logs in by SCRAM.
    """

    model_config = SettingsConfigDict(env_file=".env")

    kafka_module_bootstrap: str = _OUTSIDE

    @model_validator(mode="before")
    @classmethod
    def _from_outside(cls, given: Any) -> Any:
        if isinstance(given, dict) and "kafka_admin_bootstrap" not in given:
            return {"kafka_admin_bootstrap": _OUTSIDE, "kafka_admin_mechanism": "SCRAM-SHA-512", **given}
        return given


class SystemSettings(Settings):
    """Where the system is, from the same places."""

    model_config = SettingsConfigDict(env_file=".env")

    public_url: str = "http://localhost:8080"


@module.callback()
def _each_by_name() -> None:
    """Keeps the commands below their names though there is only one."""


@module.command()
def register(
    name: str,
    kafka: Annotated[bool, typer.Option("--kafka", help="let it read and write events on Kafka itself")] = False,
    capability: Annotated[list[str] | None, typer.Option(help="what it serves: extract, summarise; repeatable")] = None,
    topic: Annotated[list[str] | None, typer.Option(help="a public topic to read besides; repeatable")] = None,
    optional: Annotated[bool, typer.Option("--optional", help="documents do not wait for it")] = False,
) -> None:
    """Let a module in, and enable it in the workspace of credentials.json for what it serves.

    With --kafka its topics, user and rights are made, and the properties of its client printed, once: run again,
    this gives it another password.
    """
    told(lambda: _register(name, capability or [], topic or [], kafka=kafka, optional=optional))


async def _register(
    name: str, capabilities: Sequence[str], topics: Sequence[str], *, kafka: bool, optional: bool
) -> None:
    read = granted_topics(capabilities, topics)
    if not (read if kafka else capabilities):
        raise NotConfigured("say what the module is for: --capability extract, or, with --kafka, --topic kgl.content")
    if kafka:
        properties = await register_on_kafka(settings_of(ModuleSettings), name, read, _note)
        sys.stdout.write("".join(f"{key}={value}\n" for key, value in properties.items()))
        sys.stdout.flush()
        _note(f"list {name} in KGL_KAFKA_MODULES of graph, and start its workers again, to have its answers read")
    if capabilities:
        await _enable(name, capabilities, mode="optional" if optional else "required")


def granted_topics(capabilities: Sequence[str], topics: Sequence[str]) -> list[Topic]:
    """What a module has to read for its capabilities, and what it is granted besides. Raises NotConfigured."""
    unknown = [each for each in capabilities if each not in CAPABILITY_TOPICS]
    if unknown:
        raise NotConfigured(f"{unknown[0]} is no capability; there are {', '.join(CAPABILITY_TOPICS)}")
    missing = [each for each in topics if each not in BY_NAME]
    if missing:
        public = ", ".join(each.name for each in BY_NAME.values() if each.public)
        raise NotConfigured(f"{missing[0]} is no topic; modules may read {public}")
    return [*(each for name in capabilities for each in CAPABILITY_TOPICS[name]), *(BY_NAME[each] for each in topics)]


async def register_on_kafka(settings: ModuleSettings, name: str, topics: Sequence[Topic], tell: Tell) -> dict[str, str]:
    """Make what the module needs on Kafka; the answer is what its client needs, in librdkafka's words."""
    prefix = settings.kafka_prefix
    rights = rights_of_module(name, topics, prefix)
    user, password = user_of_module(name, prefix), secrets.token_urlsafe(24)
    declared = Topics.read(settings.kafka_topics).of_module(name, prefix, settings.kafka_replication)
    async with administrated(settings) as cluster:
        await reconcile(cluster, Wanted(topics=declared, passwords={user: password}, rights=rights), tell)
    encrypted = settings.connection.encrypted
    return {
        "bootstrap.servers": settings.kafka_module_bootstrap,
        "security.protocol": "SASL_SSL" if encrypted else "SASL_PLAINTEXT",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": user,
        "sasl.password": password,
        **({"ssl.ca.location": str(settings.kafka_ca)} if settings.kafka_ca else {}),
        "group.id": prefix + name,
    }


async def _enable(name: str, capabilities: Sequence[str], *, mode: Literal["required", "optional"]) -> None:
    """Enable the module in the workspace of the operator's key."""
    url = settings_of(SystemSettings).public_url
    try:
        credentials = Home.from_environment().credentials(url)
    except HomeRefused as refused:
        raise NotConfigured(str(refused)) from refused
    if credentials is None:
        _note(f"not enabled in a workspace: no credentials.json for {url}; PUT /auth/v1/modules/{name} does that")
        return
    async with Api(url, credentials.api_key) as api:
        await enable(api, name, capabilities, mode)
    _note(f"enabled in the workspace {credentials.workspace}, {mode}")


async def enable(api: Api, name: str, capabilities: Sequence[str], mode: Literal["required", "optional"]) -> None:
    """Enable a module in the workspace of the key. Raises NotConfigured with the answer of auth."""
    path = f"/auth/v1/modules/{name}"
    try:
        await api.request("PUT", path, json={"capabilities": sorted(set(capabilities)), "mode": mode})
    except (ApiProblem, ApiUnreachable) as failed:
        raise NotConfigured(f"{name} is not enabled; PUT {path}: {failed}") from failed


def _note(line: str) -> None:
    """Beside the properties, which alone go to standard output."""
    typer.echo(line, err=True)
