"""The Kafka transport: aiokafka sends and reads, librdkafka answers what there is to ask of the cluster."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from loguru import logger

from kgl_contracts.topics import Topic
from kgl_servicekit.bus.kafka_admin import KafkaAdmin
from kgl_servicekit.bus.kafka_connection import KafkaConnection
from kgl_servicekit.bus.kafka_group import KafkaConsumer
from kgl_servicekit.bus.kafka_producer import KafkaProducer
from kgl_servicekit.bus.port import OnAssigned, TopicMissing

_NO_TOPIC_IDS = "no-topic-ids"
_CLOSE_LIMIT = 5.0


class KafkaBus:
    """The bus of one process.

    worker     names the process in the broker's logs
    prefix     stands before the names of topics and groups
    session    seconds without a sign of life until a member's partitions go to others
    limit      seconds that connecting, or sending one call's records, may take
    held       seconds that a broker may hold a question for records that it does not have yet
    topic_ids  False only for a broker that has none: then no topic ever seems to be a new one
    """

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        worker: str = "kgl",
        prefix: str = "",
        session: float = 10.0,
        limit: float = 15.0,
        held: float = 0.5,
        topic_ids: bool = True,
    ) -> None:
        self.connection = connection
        self.worker = worker
        self.session = session
        self.limit = limit
        self.held = held
        self._prefix = prefix
        self._topic_ids = topic_ids
        self._admin = KafkaAdmin(connection, limit)
        self._users = 0
        self._closing: set[asyncio.Task[None]] = set()

    def name_of(self, name: str) -> str:
        """What a topic or group is called in this cluster."""
        return self._prefix + name

    async def start(self) -> None:
        """Each role of a process calls it once; connections are made when they are needed."""
        if self._users == 0:
            self._admin.start()
        self._users += 1

    async def stop(self) -> None:
        self._users -= 1
        if self._users > 0:
            return
        if self._closing:
            _, open_still = await asyncio.wait(self._closing, timeout=_CLOSE_LIMIT)
            for task in open_still:
                task.cancel()
            if open_still:
                await asyncio.wait(open_still, timeout=1)
        await self._admin.stop()

    async def ping(self) -> None:
        await self._admin.ping()

    async def declare(self, topics: Sequence[Topic]) -> None:
        """See that all are there as they are declared. They are made by `kgl setup kafka`: services may not."""
        there = await self._admin.partitions([self.name_of(topic.name) for topic in topics])
        for topic in topics:
            partitions = there[self.name_of(topic.name)]
            if partitions != topic.partitions:
                raise ValueError(
                    f"The topic {self.name_of(topic.name)} has {partitions} partitions, not {topic.partitions}, "
                    "and a topic keeps what it has for life."
                )

    def producer(self) -> KafkaProducer:
        return KafkaProducer(self)

    def consumer(self, topic: str, group: str, on_assigned: OnAssigned) -> KafkaConsumer:
        return KafkaConsumer(self, topic, group, on_assigned)

    async def incarnation(self, topic: str) -> str:
        if self._topic_ids:
            return await self._admin.topic_id(self.name_of(topic))
        await self._admin.end_offsets(self.name_of(topic))
        return _NO_TOPIC_IDS

    async def begin_offsets(self, topic: str) -> dict[int, int]:
        return await self._offsets(topic, self._admin.begin_offsets)

    async def end_offsets(self, topic: str) -> dict[int, int]:
        return await self._offsets(topic, self._admin.end_offsets)

    async def _offsets(self, topic: str, ask: Callable[[str], Awaitable[dict[int, int]]]) -> dict[int, int]:
        try:
            return await ask(self.name_of(topic))
        except TopicMissing:
            await self.incarnation(topic)  # a topic that this user may not see is not listed either: this tells which
            raise

    async def forget_group(self, topic: str, group: str) -> None:
        """Kafka trims whatever groups have read, and forgets a group without members by itself."""

    async def close(self, closing: Coroutine[Any, Any, None]) -> None:
        """Let a client close, and wait for it, but not for ever: an outage must not hold up the end."""
        await asyncio.wait({self.close_later(closing)}, timeout=_CLOSE_LIMIT)

    def close_later(self, closing: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Let a client close in the background; `stop` waits for it."""
        task = asyncio.create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._closed)
        return task

    def _closed(self, task: "asyncio.Task[None]") -> None:
        self._closing.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            logger.bind(error=repr(failure)).info("bus.client_closed_badly")
