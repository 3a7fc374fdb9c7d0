"""A Kafka for the tests of modules, without a server: librdkafka's mock cluster. Needs `confluent-kafka`.

The mock speaks the protocol over TCP, with groups and idempotence. Its functions are exported by librdkafka and
not by its Python binding, so they are called by ctypes (rdkafka_mock.h).
"""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from uuid import UUID, uuid4

from confluent_kafka import Consumer, Message, Producer, TopicPartition, cimpl

from kgl_contracts.envelope import Envelope
from kgl_contracts.event import EventData

PARTITIONS = 4
_PRODUCER = 0
_TIMEOUT = 10.0
_POINTER, _TEXT, _NUMBER = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "rd_kafka_conf_new": (_POINTER, []),
    "rd_kafka_conf_set": (_NUMBER, [_POINTER, _TEXT, _TEXT, _TEXT, ctypes.c_size_t]),
    "rd_kafka_new": (_POINTER, [_NUMBER, _POINTER, _TEXT, ctypes.c_size_t]),
    "rd_kafka_destroy": (None, [_POINTER]),
    "rd_kafka_mock_cluster_new": (_POINTER, [_POINTER, _NUMBER]),
    "rd_kafka_mock_cluster_destroy": (None, [_POINTER]),
    "rd_kafka_mock_cluster_bootstraps": (_TEXT, [_POINTER]),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [_POINTER, ctypes.c_int32]),
}


@contextmanager
def mock_kafka() -> Iterator["MockKafka"]:
    """A cluster of one broker in this process; everything in it is forgotten in the end."""
    library = ctypes.CDLL(cimpl.__file__)
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    message = ctypes.create_string_buffer(512)
    configuration = library.rd_kafka_conf_new()
    library.rd_kafka_conf_set(configuration, b"log_level", b"0", message, len(message))
    client = library.rd_kafka_new(_PRODUCER, configuration, message, len(message))
    cluster = library.rd_kafka_mock_cluster_new(client, 1)
    # a real broker waits three seconds for more members before it first divides
    library.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0)
    try:
        yield MockKafka(library.rd_kafka_mock_cluster_bootstraps(cluster).decode())
    finally:
        library.rd_kafka_mock_cluster_destroy(cluster)
        library.rd_kafka_destroy(client)


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
