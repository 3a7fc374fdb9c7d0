"""What is asked of a Kafka cluster besides sending and reading, in bounded time.

By librdkafka, in threads: it knows topic ids, which aiokafka does not.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from kgl_servicekit.bus.kafka_connection import KafkaConnection
from kgl_servicekit.bus.port import BusRefused, TopicMissing
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.settings import NotConfigured

T = TypeVar("T")
_PING_LIMIT = 1.0
_LOOK_EVERY = 0.5
_UNTRUSTED = "certificate verify failed"
_NOT_ALLOWED = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED}


class KafkaAdmin:
    """One connection for questions; every method answers within `limit` seconds or raises Unavailable."""

    def __init__(
        self, connection: KafkaConnection, limit: float, make: Callable[[dict[str, Any]], Any] = AdminClient
    ) -> None:
        self._connection = connection
        self._limit = limit
        self._make = make
        self._client: Any = None
        self._noted: dict[int, str] = {}

    def start(self) -> None:
        """Make the client; it connects when it is asked something. Raises NotConfigured without its certificates."""
        try:
            self._client = self._make({**self._connection.for_librdkafka(), "error_cb": self._note})
        except KafkaException as wrong:
            if self._connection.ca is None:
                raise
            raise NotConfigured(f"KGL_KAFKA_CA names no file of certificates: {self._connection.ca}") from wrong

    async def stop(self) -> None:
        """Let the client and its threads go."""
        client, self._client = self._client, None
        await asyncio.to_thread(_drop, [client])
        del client

    async def ping(self) -> None:
        await self.ask(lambda client: self.visible(client, _PING_LIMIT))

    async def partitions(self, topics: Sequence[str]) -> dict[str, int]:
        """How many partitions each topic has. TopicMissing, or BusRefused where this user may not see one."""
        there = (await self.ask(lambda client: self.visible(client, self._limit))).topics
        for name in topics:
            if name not in there or there[name].error is not None:
                await self.topic_id(name)  # it tells why
                raise Unavailable(f"The topic {name} has been made just now.", retry_after=1)
        return {name: len(there[name].partitions) for name in topics}

    async def topic_id(self, topic: str) -> str:
        """The id that a topic was given when it was made."""

        def describe(client: Any) -> str:
            answers = client.describe_topics(TopicCollection([topic]), request_timeout=self._limit)
            try:
                return str(answers[topic].result(self._limit).topic_id)
            except KafkaException as refused:
                if refused.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise TopicMissing(
                        f"Kafka has no topic {topic}; `kgl setup kafka` makes it.", topic=topic, retry_after=1
                    ) from refused
                raise

        return await self.ask(describe)

    async def begin_offsets(self, topic: str) -> dict[int, int]:
        """The first offset that each partition still holds."""
        return await self._offsets(topic, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    async def end_offsets(self, topic: str) -> dict[int, int]:
        """The offset that the next record of each partition will have."""
        return await self._offsets(topic, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    async def _offsets(self, topic: str, which: OffsetSpec) -> dict[int, int]:
        def list_offsets(client: Any) -> dict[int, int]:
            described = self.visible(client, self._limit).topics.get(topic)
            if described is None:
                raise TopicMissing(topic=topic, retry_after=1)
            if described.error is not None:
                raise KafkaException(described.error)
            asked = {TopicPartition(topic, number): which for number in described.partitions}
            answers = client.list_offsets(asked, request_timeout=self._limit)
            return {place.partition: answer.result(self._limit).offset for place, answer in answers.items()}

        return await self.ask(list_offsets)

    async def ask(self, question: Callable[[Any], T]) -> T:
        """Ask in a thread; what the broker refuses and what it does not answer is told apart."""
        if self._client is None:
            raise Unavailable("The bus is not open.", retry_after=1)
        try:
            return await asyncio.to_thread(question, self._client)
        except KafkaException as refused:
            error = refused.args[0]
            if error.code() in _NOT_ALLOWED:
                raise BusRefused(
                    f"Kafka does not allow this to {self._connection.user}: {error.str()}; "
                    "`kgl setup kafka` grants the rights.",
                    retry_after=1,
                ) from refused
            raise self._no_answer(error.str()) from refused
        except TimeoutError as late:
            raise self._no_answer("it takes too long") from late

    def _no_answer(self, why: str) -> Unavailable:
        return Unavailable(f"Kafka at {self._connection.bootstrap} does not answer: {why}", retry_after=1)

    def visible(self, client: Any, limit: float) -> Any:
        """All that this user may see. A login that is refused is told at once, not at the end of the limit."""
        until = time.monotonic() + limit
        self._noted = {}
        while True:
            try:
                return client.list_topics(timeout=min(_LOOK_EVERY, max(0.0, until - time.monotonic())))
            except KafkaException as lost:
                client.poll(0)
                if (why := self._noted.get(KafkaError._AUTHENTICATION)) is not None:
                    name = self._connection.settings
                    raise BusRefused(
                        f"Kafka refuses {name}_USER ({self._connection.user}) and {name}_PASSWORD: {why}", retry_after=1
                    ) from lost
                if (why := self._noted.get(KafkaError._SSL)) is not None and _UNTRUSTED in why:
                    raise BusRefused(
                        f"KGL_KAFKA_CA does not vouch for the certificate of {self._connection.bootstrap} "
                        "(its brokers need certificates for the very names that they are reached by)",
                        retry_after=1,
                    ) from lost
                if time.monotonic() >= until:
                    raise self._no_answer(self._noted.get(KafkaError._TRANSPORT, lost.args[0].str())) from lost

    def _note(self, error: KafkaError) -> None:
        """What the client tells besides its answers, such as why it cannot connect."""
        self._noted[error.code()] = error.str()


def _drop(clients: list[Any]) -> None:
    """Destroy what the list holds in the calling thread: a client waits for its own threads when it goes."""
    clients.clear()
