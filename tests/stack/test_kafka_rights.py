"""Least rights on a real Kafka: what `kgl setup kafka` makes of the contracts, tried by every user on every topic."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace

import pytest
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from kgl_cli.setup.kafka import KafkaSetupSettings, Wanted, administrated, reconcile, setup, wanted_by_services
from kgl_cli.setup.kafka_rights import Right
from kgl_cli.testing import kafka_settings, prepared_kafka
from kgl_contracts.rights import SERVICES, read_by, written_by
from kgl_contracts.topics import ALL, AUDIT, CONTENT, DOCUMENTS, IDENTITY, OPERATIONS, Topic
from kgl_servicekit.bus.kafka import KafkaBus
from kgl_servicekit.bus.port import BusRefused, Record, SendFailed, TopicMissing
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.settings import NotConfigured
from kgl_servicekit.testing.kafka_broker import KafkaBroker
from kgl_servicekit.testing.polling import eventually

PASSWORDS_SET = "passwords set: auth, ingest, graph, content, publish"


@pytest.fixture(scope="module")
def prepared() -> Iterator[tuple[KafkaBroker, KafkaSetupSettings]]:
    with prepared_kafka() as prepared:
        yield prepared


@pytest.fixture
def broker(prepared: tuple[KafkaBroker, KafkaSetupSettings]) -> KafkaBroker:
    return prepared[0]


@pytest.fixture
def settings(prepared: tuple[KafkaBroker, KafkaSetupSettings]) -> KafkaSetupSettings:
    return prepared[1]


@pytest.fixture(params=SERVICES)
async def bus(request: pytest.FixtureRequest, broker: KafkaBroker) -> AsyncIterator[KafkaBus]:
    """The bus of each service, with its own login."""
    bus = KafkaBus(broker.user(request.param, f"{request.param}-secret"), worker=request.param)
    await bus.start()
    yield bus
    await bus.stop()


async def from_zero(partitions: frozenset[int]) -> Mapping[int, int]:
    return dict.fromkeys(partitions, 0)


async def may_write(bus: KafkaBus, topic: Topic) -> bool:
    producer = bus.producer()
    await producer.start()
    try:
        await producer.send([Record(topic=topic.name, key="k", headers={"ce_id": "1"}, value=b"{}")])
    except SendFailed as failed:
        assert "TopicAuthorizationFailed" in str(failed)
        return False
    finally:
        await producer.stop()
    return True


async def may_read(bus: KafkaBus, topic: Topic, group: str) -> bool:
    consumer = bus.consumer(topic.name, group, from_zero)
    try:
        await consumer.start()
        await consumer.poll(1, 0.1)
    except Unavailable as refused:
        assert re.search("AuthorizationFailed|does not allow", str(refused))
        return False
    finally:
        await consumer.stop()
    return True


async def test_each_service_writes_and_reads_its_topics_and_no_others(bus: KafkaBus) -> None:
    service = bus.worker
    written = {topic.name for topic in ALL if await may_write(bus, topic)}
    read = {topic.name for topic in ALL if await may_read(bus, topic, f"{service}.matrix")}
    assert written == {topic.name for topic in written_by(service)}
    assert read == {topic.name for topic in read_by(service) if "{" not in topic.name}


async def test_no_service_reads_with_the_groups_of_another(bus: KafkaBus) -> None:
    own = [service for service in SERVICES if await may_read(bus, IDENTITY, f"{service}.identity")]
    assert own == [bus.worker]
    assert not await may_read(bus, IDENTITY, bus.worker)


async def test_what_a_service_asks_of_its_topics_takes_no_right_but_to_read_or_write_them(bus: KafkaBus) -> None:
    topics = {*written_by(bus.worker), *(topic for topic in read_by(bus.worker) if "{" not in topic.name)}
    await bus.declare(sorted(topics, key=lambda topic: topic.name))
    for topic in topics:
        assert len(await bus.incarnation(topic.name)) > 8
        assert set(await bus.begin_offsets(topic.name)) == set(await bus.end_offsets(topic.name))


async def test_no_service_makes_topics_and_what_it_lacks_is_told_with_the_cure(bus: KafkaBus) -> None:
    with pytest.raises((TopicMissing, BusRefused), match="`kgl setup kafka`"):
        await bus.declare([Topic("kgl.nothing")])

    def make(client: object) -> None:
        client.create_topics([NewTopic("kgl.nothing", 1, 1)])["kgl.nothing"].result(9)  # type: ignore[attr-defined]

    with pytest.raises(BusRefused, match="does not allow"):
        await bus._admin.ask(make)


async def test_a_topic_with_other_partitions_than_the_contract_says_is_refused(broker: KafkaBroker) -> None:
    bus = KafkaBus(broker.user("ingest", "ingest-secret"))
    await bus.start()
    with pytest.raises(ValueError, match=r"kgl\.documents has 8 partitions, not 16"):
        await bus.declare([replace(DOCUMENTS, partitions=16)])
    await bus.stop()


async def test_a_wrong_password_is_told_at_once_and_one_that_is_set_later_is_good_without_another_process(
    broker: KafkaBroker, settings: KafkaSetupSettings
) -> None:
    bus = KafkaBus(broker.user("ingest", "another"), limit=30)
    await bus.start()
    async with asyncio.timeout(10):
        with pytest.raises(BusRefused, match=r"refuses KGL_KAFKA_USER \(ingest\) and KGL_KAFKA_PASSWORD"):
            await bus.declare([DOCUMENTS])
    await setup(kafka_settings(broker, kafka_password_ingest="another"), print)

    async def let_in() -> bool:
        try:
            await bus.declare([DOCUMENTS])
        except Unavailable:
            return False
        return True

    await eventually(let_in)
    await bus.stop()
    await setup(settings, print)


async def test_a_broker_that_is_away_is_no_refusal(broker: KafkaBroker) -> None:
    bus = KafkaBus(replace(broker.user("ingest", "ingest-secret"), bootstrap="localhost:1"), limit=1.0)
    await bus.start()
    with pytest.raises(Unavailable, match=r"localhost:1 does not answer: .*refused") as away:
        await bus.declare([DOCUMENTS])
    assert not isinstance(away.value, BusRefused)
    await bus.stop()


async def test_setting_up_again_changes_nothing_and_puts_right_what_others_changed(
    settings: KafkaSetupSettings,
) -> None:
    told: list[str] = []
    await setup(settings, told.append)
    assert told == [PASSWORDS_SET]
    wanted = wanted_by_services(settings)
    documents = next(topic for topic in wanted.topics if topic.name == DOCUMENTS.name)
    stale = Right("ingest", "WRITE", "TOPIC", CONTENT.name)
    async with administrated(settings) as cluster:
        await cluster.configure({DOCUMENTS.name: {"retention.ms": "1000"}})
        await reconcile(cluster, Wanted(topics=(), passwords={}, rights=wanted.rights | {stale}), told.append)
    assert told.pop() == "granted to ingest: WRITE TOPIC kgl.content"
    await setup(settings, told.append)
    assert sorted(told[1:]) == [
        PASSWORDS_SET,
        "taken from ingest: WRITE TOPIC kgl.content",
        f"topic kgl.documents set: retention.ms={documents.config['retention.ms']}",
    ]


async def test_what_cannot_be_brought_to_what_is_declared_is_refused_before_anything_is_done(
    settings: KafkaSetupSettings,
) -> None:
    wanted = wanted_by_services(settings.model_copy(update={"kafka_prefix": "other."}))
    (topic, *_) = wanted.topics
    async with administrated(settings) as cluster:
        await cluster.make([replace(topic, partitions=3)])
        await cluster.wait_for([topic.name])
        with pytest.raises(NotConfigured, match="has 3 partitions, not 8"):
            await reconcile(cluster, wanted, print)
        assert list(await cluster.topics([each.name for each in wanted.topics])) == [topic.name]
    with pytest.raises(NotConfigured, match="kept 1 times, not 3 times"):
        await setup(settings.model_copy(update={"kafka_replication": 3}), print)


async def test_two_installations_share_a_cluster_by_their_prefixes(
    broker: KafkaBroker, settings: KafkaSetupSettings
) -> None:
    await setup(settings.model_copy(update={"kafka_prefix": "lab."}), print)
    mine = KafkaBus(broker.user("auth", "auth-secret"))
    theirs = KafkaBus(broker.user("lab.auth", "auth-secret"), prefix="lab.")
    for bus in (mine, theirs):
        await bus.start()
    for topic in (AUDIT, OPERATIONS):
        assert await may_write(mine, topic)
        assert await may_write(theirs, topic)
        assert not await may_write(mine, Topic(f"lab.{topic.name}"))
    assert await may_read(theirs, IDENTITY, "auth.identity")
    assert not await may_read(mine, Topic(f"lab.{IDENTITY.name}"), "auth.identity")
    for bus in (mine, theirs):
        await bus.stop()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kafka_admin_password": "wrong"}, r"refuses KGL_KAFKA_ADMIN_USER \(admin\) and KGL_KAFKA_ADMIN_PASSWORD"),
        ({"kafka_admin_bootstrap": "localhost:1"}, r"localhost:1 does not answer: .*refused"),
    ],
)
async def test_an_administrator_who_is_refused_or_gets_no_answer_is_told_in_one_line(
    broker: KafkaBroker, change: dict[str, str], told: str
) -> None:
    with pytest.raises(NotConfigured, match=told) as wrong:
        await setup(kafka_settings(broker, **change), print)
    assert "\n" not in str(wrong.value)
