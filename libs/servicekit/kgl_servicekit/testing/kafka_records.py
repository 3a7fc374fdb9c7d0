"""Records of a mock cluster: what tests of modules put there, and what they find."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from uuid import UUID, uuid4

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from kgl_contracts.envelope import Envelope
from kgl_contracts.event import EventData
from kgl_servicekit.testing.kafka import MockCluster

PARTITIONS = 4  # the mock's own number, for topics that come to be as they are written to
_TIMEOUT = 10.0


class NoText(str):
    """The name of a header that comes as bytes which are no text."""

    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        return b"n\xff"


async def send_batch(
    brokers: str,
    topic: str,
    key: bytes,
    records: Sequence[tuple[bytes, Sequence[tuple[str, bytes]]]],
    *,
    compressed: bool = False,
    **login: Any,
) -> None:
    """One batch of values and headers into partition 0; aiokafka's builder in C makes only names that are text."""
    foreign = AIOKafkaProducer(**{"bootstrap_servers": brokers, **login})
    await foreign.start()
    batch = foreign.create_batch()
    batch._builder = _DefaultRecordBatchBuilderPy(
        magic=2,
        compression_type=_DefaultRecordBatchBuilderPy.CODEC_GZIP if compressed else 0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=0,
        batch_size=10_000,
    )
    for value, headers in records:
        batch.append(timestamp=None, key=key, value=value, headers=headers)
    await (await foreign.send_batch(batch, topic, partition=0))
    await foreign.stop()


@contextmanager
def mock_kafka() -> Iterator["MockKafka"]:
    """A cluster of its own, without topics; everything in it is forgotten in the end."""
    cluster = MockCluster()
    try:
        yield MockKafka(cluster.bootstrap)
    finally:
        cluster.close()


@dataclass
class MockKafka:
    """What tests put into the cluster, and find there."""

    brokers: str
    at: datetime = field(default_factory=lambda: datetime(2026, 11, 23, tzinfo=UTC))

    @cached_property
    def _producer(self) -> Producer:
        return Producer({"bootstrap.servers": self.brokers, "log_level": 2})

    def emit(self, event: EventData, workspace: UUID | None = None) -> UUID:
        """An event as our services send it; the answer is its id."""
        envelope = Envelope(
            id=uuid4(), type=event.event_type, source=event.producer(), time=self.at, workspace_id=workspace
        )
        self.put(event.topic.name, event.key, event.model_dump_json().encode(), list(envelope.headers().items()))
        return envelope.id

    def put(self, topic: str, key: str, value: bytes | None, headers: Sequence[tuple[str, str | bytes | None]]) -> None:
        """A record of any form."""
        self._producer.produce(topic, key=key, value=value, headers=list(headers))
        self._producer.flush(_TIMEOUT)

    def read(self, topic: str) -> list[Message]:
        """All that a topic holds now, in order for each partition."""
        consumer = Consumer({"bootstrap.servers": self.brokers, "group.id": "reader", "fetch.wait.max.ms": 10})
        found: list[Message] = []
        try:
            if topic not in consumer.list_topics(timeout=_TIMEOUT).topics:
                return found
            places = [TopicPartition(topic, number, 0) for number in range(PARTITIONS)]
            ends = [consumer.get_watermark_offsets(place, timeout=_TIMEOUT)[1] for place in places]
            consumer.assign(places)
            while len(found) < sum(ends):
                message = consumer.poll(_TIMEOUT)
                assert message is not None, f"{topic} cannot be read"
                found.append(message)
        finally:
            consumer.close()
        return found

    def committed(self, group: str, topic: str) -> int:
        """The sum of a group's committed offsets: how many records of the topic it is done with."""
        consumer = Consumer({"bootstrap.servers": self.brokers, "group.id": group})
        try:
            places = consumer.committed([TopicPartition(topic, n) for n in range(PARTITIONS)], timeout=_TIMEOUT)
            return sum(max(place.offset, 0) for place in places)
        finally:
            consumer.close()


def header(message: Message, name: str) -> str:
    """A header of a record, as text; KeyError when it has none."""
    headers: dict[str, bytes] = dict(message.headers() or ())  # type: ignore[arg-type]
    return headers[name].decode()
