"""What is asked of a Kafka cluster, with a client that answers as a broker does and the mock cluster does not."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicCollection

from kgl_contracts.topics import Topic
from kgl_servicekit.bus.kafka import KafkaBus
from kgl_servicekit.bus.kafka_admin import KafkaAdmin
from kgl_servicekit.bus.kafka_connection import KafkaConnection
from kgl_servicekit.bus.port import BusRefused, TopicMissing
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.settings import NotConfigured


@dataclass
class Described:
    topic_id: str


@dataclass
class Partitioned:
    partitions: range
    error: None = None


@dataclass
class Listed:
    topics: dict[str, Partitioned]


@dataclass
class Broker:
    """Knows topic ids; with `notes` it is one that cannot be used, and these say why."""

    ids: dict[str, str] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    partitions: dict[str, int] = field(default_factory=dict)
    notes: list[KafkaError] = field(default_factory=list)
    note: Callable[[KafkaError], None] = print

    def made_by(self, options: dict[str, Any]) -> "Broker":
        self.note = options["error_cb"]
        return self

    def describe_topics(self, topics: TopicCollection, request_timeout: float) -> dict[str, "Future[Described]"]:
        return {name: self._answer(name, Described(self.ids.get(name, ""))) for name in topics.topic_names}

    def list_topics(self, timeout: float) -> Listed:
        if self.notes:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return Listed({name: Partitioned(range(number)) for name, number in self.partitions.items()})

    def poll(self, timeout: float) -> None:
        for note in self.notes:
            self.note(note)

    def _answer(self, topic: str, value: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        if topic in self.refusals:
            future.set_exception(KafkaException(KafkaError(self.refusals[topic])))
        else:
            future.set_result(value)
        return future


def admin(broker: Broker) -> KafkaAdmin:
    made = KafkaAdmin(KafkaConnection(bootstrap="nowhere:1"), 1.0, lambda _: broker)
    made.start()
    return made


async def test_a_topic_is_told_by_its_id_and_one_that_is_not_there_or_not_shown_by_its_error() -> None:
    refusals = {"b": KafkaError.UNKNOWN_TOPIC_OR_PART, "c": KafkaError.TOPIC_AUTHORIZATION_FAILED}
    asked = admin(Broker({"a": "xYz"}, refusals))
    assert await asked.topic_id("a") == "xYz"
    with pytest.raises(TopicMissing):
        await asked.topic_id("b")
    with pytest.raises(Unavailable, match="authorization failed") as hidden:
        await asked.topic_id("c")
    assert not isinstance(hidden.value, TopicMissing)
    await asked.stop()
    with pytest.raises(Unavailable, match="not open"):
        await asked.topic_id("a")


async def test_a_topic_that_is_not_listed_because_this_user_may_not_see_it_does_not_seem_to_be_missing() -> None:
    bus = KafkaBus(KafkaConnection(bootstrap="nowhere:1"))
    hidden, missing = KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.UNKNOWN_TOPIC_OR_PART
    bus._admin = admin(Broker(refusals={"hidden": hidden, "none": missing}))
    for ask in (bus.begin_offsets, bus.end_offsets):
        with pytest.raises(Unavailable, match="authorization failed"):
            await ask("hidden")
        with pytest.raises(TopicMissing):
            await ask("none")


async def test_topics_are_seen_with_their_partitions_and_one_that_is_missing_or_hidden_is_named_with_the_cure() -> None:
    refusals = {"none": KafkaError.UNKNOWN_TOPIC_OR_PART, "hidden": KafkaError.TOPIC_AUTHORIZATION_FAILED}
    bus = KafkaBus(KafkaConnection(bootstrap="nowhere:1"))
    bus._admin = admin(Broker(refusals=refusals, partitions={"a": 2, "b": 1}))
    await bus.declare([Topic("a", partitions=2), Topic("b", partitions=1)])
    with pytest.raises(ValueError, match="topic a has 2 partitions, not 8"):
        await bus.declare([Topic("a", partitions=8)])
    with pytest.raises(TopicMissing, match="no topic none; `kgl setup kafka` makes it"):
        await bus.declare([Topic("a", partitions=2), Topic("none")])
    with pytest.raises(BusRefused, match=r"authorization failed; `kgl setup kafka` grants"):
        await bus.declare([Topic("hidden")])


async def test_a_topic_that_has_been_made_since_the_list_was_is_waited_for() -> None:
    bus = KafkaBus(KafkaConnection(bootstrap="nowhere:1"))
    bus._admin = admin(Broker())
    with pytest.raises(Unavailable, match="made just now") as young:
        await bus.declare([Topic("young")])
    assert type(young.value) is Unavailable


async def test_a_login_that_is_refused_is_told_at_once_and_by_the_names_of_its_settings() -> None:
    broker = Broker(notes=[KafkaError(KafkaError._AUTHENTICATION, "wrong password")])
    asked = KafkaAdmin(
        KafkaConnection(bootstrap="nowhere:1", user="ingest", password="hush", settings="KGL_X"), 60.0, broker.made_by
    )
    asked.start()
    async with asyncio.timeout(5):
        with pytest.raises(BusRefused, match=r"KGL_X_USER \(ingest\) and KGL_X_PASSWORD: wrong password"):
            await asked.partitions(["a"])


async def test_a_certificate_that_the_authority_does_not_vouch_for_is_told_at_once() -> None:
    broker = Broker(notes=[KafkaError(KafkaError._SSL, "SSL handshake failed: certificate verify failed: self-signed")])
    asked = KafkaAdmin(KafkaConnection(bootstrap="there:1", ca=Path("ca.crt")), 60.0, broker.made_by)
    asked.start()
    async with asyncio.timeout(5):
        with pytest.raises(BusRefused, match="KGL_KAFKA_CA does not vouch for the certificate of there:1"):
            await asked.partitions(["a"])


def test_an_authority_whose_file_is_missing_is_told(tmp_path: Path) -> None:
    asked = KafkaAdmin(KafkaConnection(bootstrap="there:1", ca=tmp_path / "none.crt"), 1.0)
    with pytest.raises(NotConfigured, match=r"KGL_KAFKA_CA names no file of certificates: .*none\.crt"):
        asked.start()


async def test_a_broker_that_cannot_be_reached_is_named_with_the_reason_within_the_limit() -> None:
    broker = Broker(notes=[KafkaError(KafkaError._TRANSPORT, "connection refused")])
    asked = KafkaAdmin(KafkaConnection(bootstrap="nowhere:1"), 0.1, broker.made_by)
    asked.start()
    with pytest.raises(Unavailable, match="nowhere:1 does not answer: connection refused") as out:
        await asked.partitions(["a"])
    assert not isinstance(out.value, BusRefused)
