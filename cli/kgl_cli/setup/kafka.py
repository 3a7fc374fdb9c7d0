"""`kgl setup kafka`: topics, users and rights, as they are declared.

KGL_KAFKA_ADMIN_BOOTSTRAP, _USER (admin), _PASSWORD, _MECHANISM (PLAIN)  the administrator
KGL_KAFKA_PASSWORD_AUTH, _INGEST, _GRAPH, _CONTENT, _PUBLISH             the services' passwords
KGL_KAFKA_ADMIN_SCRAM (true)  lets the administrator in by SCRAM, too: `kgl module` comes from outside, where that is
KGL_KAFKA_REPLICATION (1 or 3), KGL_KAFKA_TOPICS (the file), KGL_KAFKA_TLS, _CA, _PREFIX

Every secret also as KGL_..._FILE. It may be run again at any time: what is there already stays.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import typer
from pydantic import Field, SecretStr

from kgl_cli.setup.kafka_cluster import LIMIT, Cluster, rule_of, told_rule
from kgl_cli.setup.kafka_rights import Right, rights_of_service, user_of_service
from kgl_cli.setup.kafka_topics import TOPICS, DeclaredTopic, Topics
from kgl_cli.setup.telling import told
from kgl_contracts.rights import SERVICES
from kgl_servicekit.bus.kafka_admin import KafkaAdmin
from kgl_servicekit.bus.kafka_connection import KafkaConnection
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.settings import NotConfigured, Settings, settings_of

WHOLE_LIMIT = 90.0
Tell = Callable[[str], None]


class KafkaAdminSettings(Settings):
    """The administrator, and what holds for the whole cluster."""

    kafka_admin_bootstrap: str = Field(min_length=1, description="host:port,... of the administrator's listener")
    kafka_admin_user: str = "admin"
    kafka_admin_password: SecretStr
    kafka_admin_mechanism: Literal["PLAIN", "SCRAM-SHA-512", "SCRAM-SHA-256"] = "PLAIN"
    kafka_tls: bool = False
    kafka_ca: Path | None = None
    kafka_prefix: str = ""
    kafka_replication: int = 1
    kafka_topics: Path = TOPICS

    @property
    def connection(self) -> KafkaConnection:
        return KafkaConnection(
            bootstrap=self.kafka_admin_bootstrap,
            user=self.kafka_admin_user,
            password=self.kafka_admin_password.get_secret_value(),
            mechanism=self.kafka_admin_mechanism,
            tls=self.kafka_tls,
            ca=self.kafka_ca,
            settings="KGL_KAFKA_ADMIN",
        )


class KafkaSetupSettings(KafkaAdminSettings):
    """And the passwords of the services; with `kafka_admin_scram` the administrator's, too, on their listener."""

    kafka_admin_scram: bool = False
    kafka_password_auth: SecretStr
    kafka_password_ingest: SecretStr
    kafka_password_graph: SecretStr
    kafka_password_content: SecretStr
    kafka_password_publish: SecretStr

    @property
    def passwords(self) -> dict[str, str]:
        """By user."""
        return {
            user_of_service(service, self.kafka_prefix): getattr(self, f"kafka_password_{service}").get_secret_value()
            for service in SERVICES
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What shall be in the cluster. Users have these rights and no others."""

    topics: Sequence[DeclaredTopic]
    passwords: Mapping[str, str]
    rights: frozenset[Right]


def wanted_by_services(settings: KafkaSetupSettings) -> Wanted:
    """What the five services need. Raises NotConfigured."""
    prefix = settings.kafka_prefix
    empty = [user for user, password in settings.passwords.items() if not password]
    if empty:
        raise NotConfigured(f"the passwords of {', '.join(empty)} are empty; set KGL_KAFKA_PASSWORD_<SERVICE>")
    admin = {settings.kafka_admin_user: settings.kafka_admin_password.get_secret_value()}
    return Wanted(
        topics=Topics.read(settings.kafka_topics).of_services(prefix, settings.kafka_replication),
        passwords={**settings.passwords, **(admin if settings.kafka_admin_scram else {})},
        rights=frozenset[Right]().union(*(rights_of_service(service, prefix) for service in SERVICES)),
    )


@asynccontextmanager
async def administrated(settings: KafkaAdminSettings) -> AsyncIterator[Cluster]:
    """The cluster; what fails in it fails with one sentence, as NotConfigured."""
    admin = KafkaAdmin(settings.connection, LIMIT)
    admin.start()
    try:
        async with asyncio.timeout(WHOLE_LIMIT):
            yield Cluster(admin)
    except Unavailable as failed:
        raise NotConfigured(str(failed)) from failed
    except TimeoutError as late:
        raise NotConfigured(
            f"Kafka was not ready within {WHOLE_LIMIT:.0f} s; what is done stays, run it again"
        ) from late
    finally:
        await admin.stop()


async def reconcile(cluster: Cluster, wanted: Wanted, tell: Tell) -> None:
    """Make, set, grant and revoke what differs; `tell` hears of each change. Raises NotConfigured before any."""
    await _reconcile_topics(cluster, wanted.topics, tell)
    if wanted.passwords:
        await cluster.set_passwords(wanted.passwords)
        tell(f"passwords set: {', '.join(wanted.passwords)}")
    await _reconcile_rights(cluster, wanted, tell)


async def _reconcile_rights(cluster: Cluster, wanted: Wanted, tell: Tell) -> None:
    rules = {rule_of(right) for right in wanted.rights}
    there = await cluster.rules({right.user for right in wanted.rights})
    missing, stale = (sorted(rules, key=told_rule) for rules in (rules - there, there - rules))
    if missing:
        await cluster.grant(missing)
    if stale:
        await cluster.revoke(stale)
    await cluster.wait_for_rules(rules)
    for rule in missing:
        tell(f"granted to {told_rule(rule)}")
    for rule in stale:
        tell(f"taken from {told_rule(rule)}")


async def _reconcile_topics(cluster: Cluster, topics: Sequence[DeclaredTopic], tell: Tell) -> None:
    there = await cluster.topics([topic.name for topic in topics])
    _refuse_differing(topics, there)
    missing = [topic for topic in topics if topic.name not in there]
    changes = {topic.name: _differing(topic, there[topic.name]) for topic in topics if topic.name in there}
    changes = {name: config for name, config in changes.items() if config}
    if missing:
        await cluster.make(missing)
    if changes:
        await cluster.configure(changes)
    await cluster.wait_for([topic.name for topic in missing])
    for topic in missing:
        tell(f"topic {topic.name} made: {topic.partitions} partitions, replication {topic.replication}")
    for name, config in changes.items():
        tell(f"topic {name} set: {', '.join(f'{key}={value}' for key, value in config.items())}")


def _refuse_differing(topics: Sequence[DeclaredTopic], there: Mapping[str, DeclaredTopic]) -> None:
    for topic in topics:
        found = there.get(topic.name, topic)
        if found.partitions != topic.partitions:
            raise NotConfigured(
                f"The topic {topic.name} has {found.partitions} partitions, not {topic.partitions}, and keeps them for "
                "life: keys would change their partition. Delete it and refill it, or set another KGL_KAFKA_PREFIX."
            )
        if found.replication < topic.replication:
            raise NotConfigured(
                f"The topic {topic.name} is kept {found.replication} times, not {topic.replication} times "
                "(KGL_KAFKA_REPLICATION): move it by kafka-reassign-partitions.sh first."
            )


def _differing(wanted: DeclaredTopic, found: DeclaredTopic) -> dict[str, str]:
    return {key: value for key, value in wanted.config.items() if found.config.get(key) != value}


async def setup(settings: KafkaSetupSettings, tell: Tell) -> None:
    """Bring the cluster to what is declared. Raises NotConfigured."""
    wanted = wanted_by_services(settings)
    async with administrated(settings) as cluster:
        await reconcile(cluster, wanted, tell)


def run() -> None:
    """The command."""
    told(lambda: setup(settings_of(KafkaSetupSettings), typer.echo))
