"""What is asked of a Kafka cluster besides sending and reading, in bounded time.

By librdkafka, in threads: it knows topic ids, which aiokafka does not.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from kgl_contracts.topics import Topic
from kgl_servicekit.bus.kafka_connection import KafkaConnection
from kgl_servicekit.bus.port import TopicMissing
from kgl_servicekit.errors import Unavailable

T = TypeVar("T")
_PING_LIMIT = 2.0
_EXISTS = "TOPIC_ALREADY_EXISTS"


class KafkaAdmin:
    """One connection for questions; every method answers within `limit` seconds or raises Unavailable."""

    def __init__(
        self, connection: KafkaConnection, limit: float, make: Callable[[dict[str, Any]], Any] = AdminClient
    ) -> None:
        self._connection = connection
        self._limit = limit
        self._make = make
        self._client: Any = None

    def start(self) -> None:
        """Make the client; it connects when it is asked something."""
        self._client = self._make(self._connection.for_librdkafka())

    async def stop(self) -> None:
        """Let the client and its threads go."""
        client, self._client = self._client, None
        await asyncio.to_thread(_drop, [client])
        del client

    async def ping(self) -> None:
        await self._ask(lambda client: client.list_topics(timeout=_PING_LIMIT))

    async def partitions(self) -> dict[str, int]:
        """How many partitions each topic has that this user may see."""
        metadata = await self._ask(lambda client: client.list_topics(timeout=self._limit))
        return {name: len(topic.partitions) for name, topic in metadata.topics.items() if topic.error is None}

    async def topic_id(self, topic: str) -> str:
        """The id that a topic was given when it was made."""

        def describe(client: Any) -> str:
            answers = client.describe_topics(TopicCollection([topic]), request_timeout=self._limit)
            try:
                return str(answers[topic].result(self._limit).topic_id)
            except KafkaException as refused:
                if refused.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise TopicMissing(topic=topic, retry_after=1) from refused
                raise

        return await self._ask(describe)

    async def begin_offsets(self, topic: str) -> dict[int, int]:
        """The first offset that each partition still holds."""
        return await self._offsets(topic, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    async def end_offsets(self, topic: str) -> dict[int, int]:
        """The offset that the next record of each partition will have."""
        return await self._offsets(topic, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    async def _offsets(self, topic: str, which: OffsetSpec) -> dict[int, int]:
        def list_offsets(client: Any) -> dict[int, int]:
            described = client.list_topics(timeout=self._limit).topics.get(topic)
            if described is None:
                raise TopicMissing(topic=topic, retry_after=1)
            if described.error is not None:
                raise KafkaException(described.error)
            asked = {TopicPartition(topic, number): which for number in described.partitions}
            answers = client.list_offsets(asked, request_timeout=self._limit)
            return {place.partition: answer.result(self._limit).offset for place, answer in answers.items()}

        return await self._ask(list_offsets)

    async def create(self, topics: Sequence[Topic]) -> None:
        """Make topics; one that is there by now is fine. Unavailable, with the broker's reason, if it may not be."""

        def create_topics(client: Any) -> None:
            wanted = [NewTopic(t.name, t.partitions, config=_config(t)) for t in topics]
            answers: Mapping[str, Any] = client.create_topics(wanted, request_timeout=self._limit)
            for name, answer in answers.items():
                try:
                    answer.result(self._limit)
                except KafkaException as refused:
                    if refused.args[0].name() != _EXISTS:
                        raise Unavailable(
                            f"The topic {name} does not exist and cannot be made here: {refused.args[0].str()}",
                            retry_after=5,
                        ) from refused

        await self._ask(create_topics)

    async def _ask(self, question: Callable[[Any], T]) -> T:
        if self._client is None:
            raise Unavailable("The bus is not open.", retry_after=1)
        try:
            return await asyncio.to_thread(question, self._client)
        except (KafkaException, TimeoutError) as lost:
            raise Unavailable(f"Kafka does not answer: {lost}", retry_after=1) from lost


def _config(topic: Topic) -> dict[str, str]:
    return {"cleanup.policy": "compact"} if topic.compacted else {}


def _drop(clients: list[Any]) -> None:
    """Destroy what the list holds in the calling thread: a client waits for its own threads when it goes."""
    clients.clear()
