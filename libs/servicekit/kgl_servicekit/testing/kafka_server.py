"""The Kafka transport on a real cluster, as its administrator: what is declared is made, and can be lost again."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from kgl_contracts.topics import Topic
from kgl_servicekit.bus.kafka import KafkaBus
from kgl_servicekit.bus.kafka_connection import KafkaConnection
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.servers import Servers

_LIMIT = 15.0


class KafkaServerBus(KafkaBus):
    """Tests keep apart by prefixes; `forget` takes away all that was made under one."""

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        prefix: str,
        session: float = 6.0,
        limit: float = _LIMIT,
        held: float = 0.05,
    ) -> None:
        super().__init__(connection, prefix=prefix, session=session, limit=limit, held=held)
        self._made: set[str] = set()

    async def declare(self, topics: Sequence[Topic]) -> None:
        """Make what is missing, as `kgl setup kafka` does."""
        missing = [topic for topic in topics if self.name_of(topic.name) not in self._made]
        wanted = [
            NewTopic(
                self.name_of(topic.name),
                topic.partitions,
                1,
                config={"cleanup.policy": "compact"} if topic.compacted else {},
            )
            for topic in missing
        ]

        def make(client: Any) -> None:
            for answer in client.create_topics(wanted).values() if wanted else ():
                try:
                    answer.result(_LIMIT)
                except KafkaException as failed:
                    if failed.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                        raise
            _wait_for(client, [topic.topic for topic in wanted], there=True)

        await self._admin.ask(make)
        self._made.update(topic.topic for topic in wanted)
        await super().declare(topics)
        for topic in missing:
            await eventually(partial(self._has_leaders, topic.name))

    async def _has_leaders(self, topic: str) -> bool:
        try:
            await self.end_offsets(topic)
        except Unavailable:
            return False
        return True

    async def lose(self, topic: str) -> None:
        """The topic is gone, with all that it held."""
        name = self.name_of(topic)

        def delete(client: Any) -> None:
            client.delete_topics([name])[name].result(_LIMIT)
            _wait_for(client, [name], there=False)

        await self._admin.ask(delete)
        self._made.discard(name)

    async def trim(self, topic: str, partition: int, before: int) -> None:
        """The records of a partition before that offset are gone."""
        place = TopicPartition(self.name_of(topic), partition, before)
        await self._admin.ask(lambda client: client.delete_records([place])[place].result(_LIMIT))

    async def forget(self) -> None:
        made, self._made = sorted(self._made), set()

        def delete(client: Any) -> None:
            for answer in client.delete_topics(made).values():
                answer.result(_LIMIT)

        if made:
            await self._admin.ask(delete)


def server_connection(servers: Servers) -> KafkaConnection:
    """The administrator's."""
    login = servers.kafka
    assert login is not None
    return KafkaConnection(
        bootstrap=login.url, user=login.user, password=login.password, mechanism=servers.kafka_mechanism
    )


def _wait_for(client: Any, topics: Sequence[str], *, there: bool) -> None:
    """The broker hears of what its controller did some moments later."""
    until = time.monotonic() + _LIMIT
    while any((name in client.list_topics(timeout=_LIMIT).topics) is not there for name in topics):
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(0.02)
