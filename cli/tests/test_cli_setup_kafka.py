"""What `kgl setup kafka` asks for: the declared topics are those of the contracts, and rights follow from these."""

from pathlib import Path

import pytest

import kgl_auth.bootstrap
import kgl_content.bootstrap
import kgl_graph.bootstrap
import kgl_ingest.bootstrap
import kgl_publish.bootstrap
from kgl_auth.settings import AuthSettings
from kgl_cli.setup.kafka import KafkaSetupSettings, wanted_by_services
from kgl_cli.setup.kafka_rights import Right, rights_of_module, rights_of_service
from kgl_cli.setup.kafka_topics import Topics
from kgl_content.settings import ContentSettings
from kgl_contracts.rights import CAPABILITY_TOPICS, SERVICES, read_by, written_by
from kgl_contracts.topics import AI, ALL, AUDIT, MODULE_RESULTS, dead_letter_topic, module_topic
from kgl_graph.settings import GraphSettings
from kgl_ingest.settings import IngestSettings
from kgl_publish.settings import PublishSettings
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.database.maintenance import INBOX_DAYS, OUTBOX_DAYS
from kgl_servicekit.service import Service
from kgl_servicekit.settings import NotConfigured, settings_of

FILE = Path(__file__).parents[2] / "deploy/kafka/topics.yaml"
DAY = 24 * 3600 * 1000
PASSWORDS = {f"kafka_password_{service}": f"{service}-secret" for service in SERVICES}


@pytest.fixture
def topics() -> Topics:
    return Topics.read(FILE)


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Service:
    """As it is built; graph with a module that answers by events."""
    build, settings = {
        "auth": (kgl_auth.bootstrap.build, AuthSettings),
        "ingest": (kgl_ingest.bootstrap.build, IngestSettings),
        "graph": (kgl_graph.bootstrap.build, GraphSettings),
        "content": (kgl_content.bootstrap.build, ContentSettings),
        "publish": (kgl_publish.bootstrap.build, PublishSettings),
    }[request.param]
    values = {"env": "test", "database_url": "postgresql://nowhere", "object_dir": tmp_path}
    more = {"kafka_modules": "tagger"} if request.param == "graph" else {}
    return build(settings(**values, **more), MemoryBus())


def allows(rights: frozenset[Right], operation: str, kind: str, name: str) -> bool:
    return any(
        (right.operation, right.kind) == (operation, kind)
        and (name.startswith(right.name) if right.prefixed else name == right.name)
        for right in rights
    )


def test_the_declared_topics_are_those_of_the_contracts(topics: Topics) -> None:
    declared = {topic.name: topic for topic in topics.of_services("", 1)}
    assert {name: topic.partitions for name, topic in declared.items()} == {t.name: t.partitions for t in ALL}
    assert {name for name, topic in declared.items() if topic.config["cleanup.policy"] == "compact"} == {
        t.name for t in ALL if t.compacted
    }
    results, dead = topics.of_module("tagger", "", 1)
    assert (results.name, results.partitions) == ("kgl.in.tagger", module_topic("tagger").partitions)
    assert results.config["cleanup.policy"] == dead.config["cleanup.policy"] == "delete"
    assert dead.name == dead_letter_topic("tagger")


def test_no_topic_keeps_less_than_what_it_is_read_after_or_filled_from(topics: Topics) -> None:
    """A replayed topic is filled anew by the next rebuild, and a compacted one keeps what counts for ever."""
    for topic in topics.of_services("", 1):
        if topic.config["cleanup.policy"] == "delete" and not topic.name.startswith("kgl.replay."):
            assert int(topic.config["retention.ms"]) >= (OUTBOX_DAYS + 1) * DAY
    (results, _) = topics.of_module("tagger", "", 1)
    assert int(results.config["retention.ms"]) == INBOX_DAYS * DAY


def test_three_nodes_keep_three_copies_and_acknowledge_by_two(topics: Topics) -> None:
    for topic in (*topics.of_services("", 3), *topics.of_module("tagger", "", 3)):
        assert (topic.replication, topic.config["min.insync.replicas"]) == (3, "2")
    with pytest.raises(NotConfigured, match="KGL_KAFKA_REPLICATION"):
        topics.of_services("", 2)


def test_a_service_reads_what_the_contracts_say_and_may_read_all_of_it(service: Service) -> None:
    read = {subscription.topic for subscription in service.all_subscriptions}
    modules = {topic for topic in read if topic.carries(MODULE_RESULTS)}
    replayed = {rebuild.replay for rebuild in service.rebuilds}
    assert {*(read - modules), *replayed, *({MODULE_RESULTS} if modules else ())} == set(read_by(service.name))
    rights = rights_of_service(service.name, "")
    for topic in (*read, *replayed):
        assert allows(rights, "READ", "TOPIC", topic.name)
    names = [subscription.name for subscription in service.all_subscriptions]
    for group in (*names, *(rebuild.generation(1) for rebuild in service.rebuilds)):
        assert allows(rights, "READ", "GROUP", group)


def test_a_service_looks_at_its_start_for_what_it_may_see_and_for_nothing_else(service: Service) -> None:
    rights = rights_of_service(service.name, "")
    for topic in service._topics:
        assert allows(rights, "READ", "TOPIC", topic.name) or allows(rights, "WRITE", "TOPIC", topic.name)
    assert service._topics >= set(written_by(service.name))


def test_no_service_may_write_what_another_says_nor_read_with_its_groups() -> None:
    for service in SERVICES:
        rights = rights_of_service(service, "")
        for other in set(SERVICES) - {service}:
            own = {topic for topic in written_by(other) if topic not in written_by(service)}
            assert not any(allows(rights, "WRITE", "TOPIC", topic.name) for topic in own)
            assert not allows(rights, "READ", "GROUP", f"{other}.identity")
        assert not allows(rights, "WRITE", "TOPIC", "kgl.in.tagger")


def test_all_names_of_an_installation_begin_with_its_prefix() -> None:
    rights = {*rights_of_service("graph", "lab."), *rights_of_module("tagger", [AI], "lab.")}
    assert all(right.name.startswith("lab.") and right.user.startswith("lab.") for right in rights)


def test_a_module_may_read_what_it_serves_and_write_its_own_topics_alone() -> None:
    rights = rights_of_module("tagger", CAPABILITY_TOPICS["extract"], "")
    assert {right.user for right in rights} == {"module-tagger"}
    assert {right.name for right in rights if right.operation == "WRITE"} == {"kgl.in.tagger", "x.tagger.dead-letters"}
    assert allows(rights, "READ", "TOPIC", "kgl.ai")
    assert not allows(rights, "READ", "TOPIC", "kgl.in.tagger")
    for group, allowed in {"tagger": True, "tagger.redrive": True, "tagger2": False, "graph.ai": False}.items():
        assert allows(rights, "READ", "GROUP", group) is allowed


@pytest.mark.parametrize(
    ("name", "topic", "told"),
    [("graph", AI, "name of a service"), ("a.b", AI, "no name of a module"), ("tagger", AUDIT, "internal")],
)
def test_a_module_gets_no_name_or_topic_of_the_services(name: str, topic: object, told: str) -> None:
    with pytest.raises(NotConfigured, match=told):
        rights_of_module(name, [topic], "")


def test_a_password_that_is_missing_or_empty_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KGL_KAFKA_ADMIN_BOOTSTRAP", "kafka:9095")
    monkeypatch.setenv("KGL_KAFKA_ADMIN_PASSWORD", "secret")
    for name, value in PASSWORDS.items():
        monkeypatch.setenv(f"KGL_{name.upper()}", value)
    monkeypatch.setenv("KGL_KAFKA_TOPICS", str(FILE))
    settings = settings_of(KafkaSetupSettings)
    wanted = wanted_by_services(settings)
    assert wanted.passwords == {service: f"{service}-secret" for service in SERVICES}
    assert {right.user for right in wanted.rights} == set(SERVICES)
    (tmp_path / "empty").touch()
    monkeypatch.setenv("KGL_KAFKA_PASSWORD_GRAPH_FILE", str(tmp_path / "empty"))
    with pytest.raises(NotConfigured, match="of graph are empty"):
        wanted_by_services(settings_of(KafkaSetupSettings))
    monkeypatch.delenv("KGL_KAFKA_PASSWORD_GRAPH_FILE")
    monkeypatch.setenv("KGL_KAFKA_PASSWORD_GRAPH", "")
    with pytest.raises(NotConfigured, match="set KGL_KAFKA_PASSWORD_GRAPH or KGL_KAFKA_PASSWORD_GRAPH_FILE"):
        settings_of(KafkaSetupSettings)


def test_a_file_of_topics_that_is_missing_or_wrong_is_named_with_the_place(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match=r"none\.yaml cannot be read"):
        Topics.read(tmp_path / "none.yaml")
    (tmp_path / "wrong.yaml").write_text(FILE.read_text().replace("partitions: 1\n", "partitions: 0\n", 1))
    with pytest.raises(NotConfigured, match=r"wrong\.yaml is wrong: .*kgl\.identity`\.partitions"):
        Topics.read(tmp_path / "wrong.yaml")
