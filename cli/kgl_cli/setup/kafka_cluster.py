"""A Kafka cluster as its administrator sees it: what is there, and what is to be changed."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from kgl_cli.setup.kafka_rights import Right
from kgl_cli.setup.kafka_topics import DeclaredTopic
from kgl_servicekit.bus.kafka_admin import KafkaAdmin

T = TypeVar("T")
LIMIT = 15.0
_LOOK_EVERY = 0.05
_SCRAM = ScramMechanism.SCRAM_SHA_512
_ITERATIONS = 8192
_NONE: Any = None


class Cluster:
    """Questions and changes; each is done or has failed within LIMIT seconds. Raises Unavailable, BusRefused."""

    def __init__(self, admin: KafkaAdmin) -> None:
        self._admin = admin

    async def topics(self, names: Iterable[str]) -> dict[str, DeclaredTopic]:
        """Those that are there, with all their settings."""
        visible = (await self._admin.ask(lambda client: self._admin.visible(client, LIMIT))).topics
        there = [name for name in names if name in visible]
        if not there:
            return {}
        configs = await self._each(
            lambda client: client.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in there])
        )
        found = {}
        for resource, entries in configs.items():
            partitions = visible[resource.name].partitions
            config = {name: entry.value for name, entry in entries.items() if entry.value is not None}
            replicas = min((len(partition.replicas) for partition in partitions.values()), default=0)
            found[resource.name] = DeclaredTopic(
                name=resource.name, partitions=len(partitions), replication=replicas, config=config
            )
        return found

    async def make(self, topics: Sequence[DeclaredTopic]) -> None:
        wanted = [NewTopic(t.name, t.partitions, t.replication, config=dict(t.config)) for t in topics]
        await self._each(lambda client: client.create_topics(wanted))

    async def configure(self, changes: Mapping[str, Mapping[str, str]]) -> None:
        """Set settings of topics."""
        wanted = [
            ConfigResource(
                ResourceType.TOPIC,
                name,
                incremental_configs=[
                    ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
                    for key, value in config.items()
                ],
            )
            for name, config in changes.items()
        ]
        await self._each(lambda client: client.incremental_alter_configs(wanted))

    async def set_passwords(self, passwords: Mapping[str, str]) -> None:
        """Make users of SCRAM-SHA-512, or give them other passwords; who is connected stays so.

        Done when it holds: the number of iterations differs from the last one, and tells that a broker has heard.
        """
        users = list(passwords)
        before = await self._iterations(users)
        after = {user: _ITERATIONS + (before.get(user) == _ITERATIONS) for user in users}
        wanted = [
            UserScramCredentialUpsertion(user, ScramCredentialInfo(_SCRAM, after[user]), password.encode())
            for user, password in passwords.items()
        ]
        await self._each(lambda client: client.alter_user_scram_credentials(wanted))

        async def heard() -> bool:
            return await self._iterations(users) == after

        await _until(heard)

    async def _iterations(self, users: Sequence[str]) -> dict[str, int]:
        """Of the users that are there."""

        def asked(client: Any) -> dict[str, int]:
            found: dict[str, int] = {}
            for user, answer in client.describe_user_scram_credentials(list(users)).items():
                try:
                    known = answer.result(LIMIT).scram_credential_infos
                except KafkaException as failed:
                    if failed.args[0].code() != KafkaError.RESOURCE_NOT_FOUND:
                        raise
                else:
                    found[user] = max((info.iterations for info in known if info.mechanism == _SCRAM), default=0)
            return found

        return await self._admin.ask(asked)

    async def rules(self, users: Iterable[str]) -> set[AclBinding]:
        """All that is said of these users."""
        every = AclBindingFilter(
            ResourceType.ANY,
            _NONE,
            ResourcePatternType.ANY,
            _NONE,
            _NONE,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        rules = await self._admin.ask(lambda client: client.describe_acls(every, request_timeout=LIMIT).result(LIMIT))
        principals = {f"User:{user}" for user in users}
        return {rule for rule in rules if rule.principal in principals}

    async def grant(self, rules: Sequence[AclBinding]) -> None:
        await self._each(lambda client: client.create_acls(list(rules)))

    async def revoke(self, rules: Sequence[AclBinding]) -> None:
        wanted = [
            AclBindingFilter(
                rule.restype,
                rule.name,
                rule.resource_pattern_type,
                rule.principal,
                rule.host,
                rule.operation,
                rule.permission_type,
            )
            for rule in rules
        ]
        await self._each(lambda client: client.delete_acls(wanted))

    async def wait_for(self, topics: Sequence[str]) -> None:
        """Until a service that starts now sees the topics; the brokers hear of them some moments later."""

        async def seen() -> bool:
            return len(await self.topics(topics)) == len(topics)

        await _until(seen)

    async def wait_for_rules(self, rules: set[AclBinding]) -> None:
        """Until no others are there for the users of these."""
        users = {rule.principal.removeprefix("User:") for rule in rules}

        async def hold() -> bool:
            return await self.rules(users) == rules

        await _until(hold)

    async def _each(self, ask: Callable[[Any], Mapping[T, Any]]) -> dict[T, Any]:
        """The answers to a question about several things; raises for the first that failed."""

        def asked(client: Any) -> dict[T, Any]:
            return {key: answer.result(LIMIT) for key, answer in ask(client).items()}

        return await self._admin.ask(asked)


async def _until(is_so: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(LIMIT):
        while True:
            if await is_so():
                return
            await asyncio.sleep(_LOOK_EVERY)


def rule_of(right: Right) -> AclBinding:
    """A right in Kafka's words; it holds from every host."""
    return AclBinding(
        ResourceType[right.kind],
        right.name,
        ResourcePatternType.PREFIXED if right.prefixed else ResourcePatternType.LITERAL,
        f"User:{right.user}",
        "*",
        AclOperation[right.operation],
        AclPermissionType.ALLOW,
    )


def told_rule(rule: Any) -> str:
    """A rule in few words, `ingest: READ TOPIC kgl.operations`."""
    pattern = "*" if rule.resource_pattern_type == ResourcePatternType.PREFIXED else ""
    kind = "" if rule.permission_type == AclPermissionType.ALLOW else f"{rule.permission_type.name} "
    user = rule.principal.removeprefix("User:")
    return f"{user}: {kind}{rule.operation.name} {rule.restype.name} {rule.name}{pattern}"
