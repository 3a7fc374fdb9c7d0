"""A Kafka for tests, without a server: librdkafka's mock cluster, and the bus on it.

The mock speaks the protocol over TCP, with groups and idempotence, but makes no topics by itself and knows no
topic ids; it can be made to fail on purpose. Its functions are exported by librdkafka and not by its Python
binding, so they are called by ctypes (rdkafka_mock.h).
"""

import asyncio
import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aiokafka.consumer import consumer
from aiokafka.consumer.group_coordinator import GroupCoordinator
from confluent_kafka import cimpl

from kgl_contracts.topics import Topic
from kgl_servicekit.bus.kafka import KafkaBus
from kgl_servicekit.bus.kafka_connection import KafkaConnection

PRODUCE = 0  # the numbers of requests and errors in Kafka's protocol
MESSAGE_TOO_LARGE = 10
TOPIC_AUTHORIZATION_FAILED = 29
_PRODUCER = 0
_NO_LOG = b"log_level", b"0"


class _PatientCoordinator(GroupCoordinator):  # type: ignore[misc]
    """Lets the other members ask for their share first: the mock refuses those who ask after the leader told it."""

    async def _perform_assignment(self, response: Any) -> Any:
        await asyncio.sleep(0.25)
        return await super()._perform_assignment(response)


class MockCluster:
    """One broker in this process, at `bootstrap`; everything in it is forgotten by `close`."""

    def __init__(self) -> None:
        self._lib = _library()
        message = ctypes.create_string_buffer(512)
        configuration = self._lib.rd_kafka_conf_new()
        self._lib.rd_kafka_conf_set(configuration, *_NO_LOG, message, len(message))
        self._client = self._lib.rd_kafka_new(_PRODUCER, configuration, message, len(message))
        self._cluster = self._lib.rd_kafka_mock_cluster_new(self._client, 1)
        self.bootstrap: str = self._lib.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        # a real broker waits three seconds for more members before it first divides
        self._lib.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic; one that is there stays as it is."""
        self._lib.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1)

    def fail_next(self, request: int, *errors: int) -> None:
        """Answer the next requests of a kind with these errors."""
        codes = (ctypes.c_int * len(errors))(*errors)
        self._lib.rd_kafka_mock_push_request_errors_array(self._cluster, request, len(errors), codes)

    def down(self) -> None:
        """Cut all connections and refuse new ones."""
        self._lib.rd_kafka_mock_broker_set_down(self._cluster, 1)

    def up(self) -> None:
        self._lib.rd_kafka_mock_broker_set_up(self._cluster, 1)

    def close(self) -> None:
        self._lib.rd_kafka_mock_cluster_destroy(self._cluster)
        self._lib.rd_kafka_destroy(self._client)


class MockKafkaBus(KafkaBus):
    """The Kafka transport on a mock cluster, whose topics are made beside the protocol."""

    def __init__(self, cluster: MockCluster, *, prefix: str = "", session: float = 1.5, limit: float = 5.0) -> None:
        super().__init__(
            KafkaConnection(bootstrap=cluster.bootstrap),
            prefix=prefix,
            session=session,
            limit=limit,
            held=0.05,  # the mock tells nobody who waits of a new record
            topic_ids=False,
        )
        self._cluster = cluster

    async def declare(self, topics: Sequence[Topic]) -> None:
        for topic in topics:
            self._cluster.create(self.name_of(topic.name), topic.partitions)
        await super().declare(topics)


@contextmanager
def mock_cluster(topics: Sequence[Topic] = ()) -> Iterator[MockCluster]:
    """A cluster with these topics."""
    cluster, coordinator = MockCluster(), consumer.GroupCoordinator
    try:
        for topic in topics:
            cluster.create(topic.name, topic.partitions)
        consumer.GroupCoordinator = _PatientCoordinator
        yield cluster
    finally:
        consumer.GroupCoordinator = coordinator  # as another cluster may still need it
        cluster.close()


def _library() -> Any:
    library = ctypes.CDLL(cimpl.__file__)
    pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, []),
        ("rd_kafka_conf_set", number, [pointer, text, text, text, ctypes.c_size_t]),
        ("rd_kafka_new", pointer, [number, pointer, text, ctypes.c_size_t]),
        ("rd_kafka_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_new", pointer, [pointer, number]),
        ("rd_kafka_mock_cluster_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_bootstraps", text, [pointer]),
        ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_topic_create", number, [pointer, text, number, number]),
        ("rd_kafka_mock_push_request_errors_array", None, [pointer, ctypes.c_int16, ctypes.c_size_t, pointer]),
        ("rd_kafka_mock_broker_set_down", number, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_up", number, [pointer, ctypes.c_int32]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
