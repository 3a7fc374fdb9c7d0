"""What is asked of a Kafka cluster, with a client that answers as a broker does and the mock cluster does not."""

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicCollection

from kgl_contracts.topics import Topic
from kgl_servicekit.bus.kafka import KafkaBus
from kgl_servicekit.bus.kafka_admin import KafkaAdmin
from kgl_servicekit.bus.kafka_connection import KafkaConnection
from kgl_servicekit.bus.port import TopicMissing
from kgl_servicekit.errors import Unavailable


@dataclass
class Described:
    topic_id: str


@dataclass
class Listed:
    topics: dict[str, Any] = field(default_factory=dict)


@dataclass
class Broker:
    """Knows topic ids, and makes topics unless told not to."""

    ids: dict[str, str] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    made: list[Any] = field(default_factory=list)

    def describe_topics(self, topics: TopicCollection, request_timeout: float) -> dict[str, "Future[Described]"]:
        return {name: self._answer(name, Described(self.ids.get(name, ""))) for name in topics.topic_names}

    def list_topics(self, timeout: float) -> "Listed":
        return Listed()

    def create_topics(self, topics: list[Any], request_timeout: float) -> dict[str, "Future[None]"]:
        self.made += topics
        return {topic.topic: self._answer(topic.topic, None) for topic in topics}

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


async def test_topics_are_made_with_their_partitions_and_compaction() -> None:
    broker = Broker()
    await admin(broker).create([Topic("a", partitions=8), Topic("b", partitions=1, compacted=True)])
    assert [(t.topic, t.num_partitions, t.config) for t in broker.made] == [
        ("a", 8, {}),
        ("b", 1, {"cleanup.policy": "compact"}),
    ]


async def test_a_topic_that_another_made_meanwhile_is_fine_and_one_that_is_refused_is_named_with_the_reason() -> None:
    await admin(Broker(refusals={"a": KafkaError.TOPIC_ALREADY_EXISTS})).create([Topic("a")])
    with pytest.raises(Unavailable, match=r"The topic b .* authorization failed"):
        await admin(Broker(refusals={"b": KafkaError.TOPIC_AUTHORIZATION_FAILED})).create([Topic("b")])
