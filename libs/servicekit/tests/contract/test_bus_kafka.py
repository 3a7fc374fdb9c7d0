"""What is particular to the Kafka transport, on a mock cluster of its own that can be made to fail.

What needs no failure is shown on a real cluster, too, where there is one.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.consumer import fetcher
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from kgl_contracts.topics import Topic
from kgl_servicekit.bus.kafka import KafkaBus
from kgl_servicekit.bus.kafka_connection import KafkaConnection
from kgl_servicekit.bus.port import Consumer, PositionLost, Record, SendFailed, StoredRecord, TopicMissing
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.kafka import (
    MESSAGE_TOO_LARGE,
    PRODUCE,
    TOPIC_AUTHORIZATION_FAILED,
    MockCluster,
    MockKafkaBus,
    mock_cluster,
)
from kgl_servicekit.testing.kafka_records import NoText, send_batch
from kgl_servicekit.testing.kafka_server import KafkaServerBus, server_connection
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.servers import real_servers

TOPIC = Topic("test.events", partitions=2)
HANGS = 30.0


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    with mock_cluster() as cluster:
        yield cluster


@pytest.fixture
async def bus(cluster: MockCluster) -> AsyncIterator[MockKafkaBus]:
    before = asyncio.all_tasks()
    bus = MockKafkaBus(cluster, limit=1.0)
    await bus.start()
    await bus.declare([TOPIC])
    yield bus
    cluster.up()
    await bus.stop()

    async def all_ended() -> bool:
        return not asyncio.all_tasks() - before - {asyncio.current_task()}

    await eventually(all_ended)


@pytest.fixture(params=["mock", *(["server"] if real_servers().kafka else [])])
async def any_bus(request: pytest.FixtureRequest, cluster: MockCluster) -> AsyncIterator[KafkaBus]:
    server = request.param == "server"
    bus: KafkaBus = (
        KafkaServerBus(server_connection(real_servers()), prefix=f"test-{uuid7()}.")
        if server
        else MockKafkaBus(cluster, limit=1.0)
    )
    await bus.start()
    await bus.declare([TOPIC])
    yield bus
    if isinstance(bus, KafkaServerBus):
        await bus.forget()
    await bus.stop()


def record(value: str, key: str = "k") -> Record:
    return Record(topic=TOPIC.name, key=key, headers={"ce_id": value}, value=value.encode())


async def from_zero(partitions: frozenset[int]) -> Mapping[int, int]:
    return dict.fromkeys(partitions, 0)


async def read(consumer: Consumer, expected: int) -> list[StoredRecord]:
    found: list[StoredRecord] = []

    async def more() -> bool:
        for batch in await consumer.poll(100, 0.05):
            found.extend(batch.records)
        return len(found) >= expected

    await eventually(more)
    return found


async def all_of(bus: KafkaBus, expected: int) -> list[StoredRecord]:
    consumer = bus.consumer(TOPIC.name, "all", from_zero)
    await consumer.start()
    found = await read(consumer, expected)
    await consumer.stop()
    return found


async def committed(bus: KafkaBus, group: str) -> dict[int, int]:
    def ask() -> dict[int, int]:
        client = AdminClient(bus.connection.for_librdkafka())
        places = [TopicPartition(bus.name_of(TOPIC.name), number) for number in range(TOPIC.partitions)]
        asked = ConsumerGroupTopicPartitions(bus.name_of(group), places)
        (answer,) = client.list_consumer_group_offsets([asked]).values()
        return {place.partition: place.offset for place in answer.result(5).topic_partitions if place.offset >= 0}

    return await asyncio.to_thread(ask)


async def test_headers_that_are_no_text_and_values_that_are_missing_break_nothing(any_bus: KafkaBus) -> None:
    foreign = AIOKafkaProducer(**any_bus.connection.for_aiokafka())
    topic = any_bus.name_of(TOPIC.name)
    await foreign.start()
    headers = [("null", None), ("bytes", b"\xff\xfe"), ("ce_id", b"7")]
    await foreign.send_and_wait(topic, key=b"\xffkey", value=None, headers=headers, partition=0)
    await foreign.send_and_wait(topic, key=None, value=b"v", partition=0)
    await foreign.stop()
    first, second = await all_of(any_bus, 2)
    assert (first.key, first.value, first.headers) == ("\ufffdkey", b"", {"bytes": "\ufffd\ufffd", "ce_id": "7"})
    assert (second.key, second.value, second.headers) == ("", b"v", {})


async def send_as(bus: KafkaBus, names: Sequence[str], *, compressed: bool = False) -> None:
    """One batch of records, each with a header of that name."""
    records = [(name.encode(), [(name, b"1"), ("ce_id", b"7")]) for name in names]
    login = bus.connection.for_aiokafka()
    await send_batch(bus.connection.bootstrap, bus.name_of(TOPIC.name), b"k", records, compressed=compressed, **login)


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_header_whose_name_is_no_text_costs_one_new_beginning_and_no_record(
    any_bus: KafkaBus, compressed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetcher, "MemoryRecords", fetcher.MemoryRecords)  # is put back after the test
    await send_as(any_bus, ["before ☂", NoText("odd"), "behind"], compressed=compressed)
    await send_as(any_bus, ["after"])
    consumer = any_bus.consumer(TOPIC.name, "all", from_zero)
    await consumer.start()
    with pytest.raises(Unavailable, match="no text"):
        await read(consumer, 1)
    await consumer.stop()
    found = await all_of(any_bus, 4)
    assert [list(r.headers) for r in found] == [[name, "ce_id"] for name in ("before ☂", "n\ufffd", "behind", "after")]
    assert [r.headers["ce_id"] for r in found] == ["7"] * 4
    assert [(r.key, r.offset) for r in found] == [("k", offset) for offset in range(4)]
    assert [r.value for r in found][2:] == [b"behind", b"after"]


async def test_more_than_a_batch_of_one_partition_arrives_in_order(any_bus: KafkaBus) -> None:
    values = [f"{n} {'x' * 65_000}" for n in range(30)]
    producer = any_bus.producer()
    await producer.start()
    acks = await producer.send([record(value) for value in values])
    await producer.stop()
    assert [ack.offset for ack in acks] == list(range(30))
    assert [r.value.decode() for r in await all_of(any_bus, 30)] == values


async def test_a_record_that_is_refused_for_good_is_named_by_what_was_acknowledged_before_it(
    bus: MockKafkaBus, cluster: MockCluster
) -> None:
    producer = bus.producer()
    await producer.start()
    cluster.fail_next(PRODUCE, MESSAGE_TOO_LARGE, 0, 0, MESSAGE_TOO_LARGE)
    with pytest.raises(SendFailed, match="MessageSizeTooLarge") as failed:
        await producer.send([record(str(n)) for n in range(5)])
    assert not failed.value.retryable
    assert [ack.offset for ack in failed.value.acked] == [0, 1]
    await producer.stop()
    assert [r.value for r in await all_of(bus, 2)] == [b"0", b"1"]


async def test_a_permission_that_is_missing_is_no_fault_of_the_record(bus: MockKafkaBus, cluster: MockCluster) -> None:
    producer = bus.producer()
    await producer.start()
    cluster.fail_next(PRODUCE, TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(SendFailed, match="TopicAuthorizationFailed") as failed:
        await producer.send([record("1"), record("2")])
    assert failed.value.retryable
    assert failed.value.acked == ()
    await producer.stop()


async def test_a_batch_that_is_too_large_together_goes_out_one_by_one(bus: MockKafkaBus, cluster: MockCluster) -> None:
    producer = bus.producer()
    await producer.start()
    cluster.fail_next(PRODUCE, MESSAGE_TOO_LARGE)
    acks = await producer.send([record(str(n)) for n in range(5)])
    assert [ack.offset for ack in acks] == list(range(5))
    await producer.send([record("5")])
    await producer.stop()
    assert [r.value for r in await all_of(bus, 6)] == [b"0", b"1", b"2", b"3", b"4", b"5"]


async def test_an_outage_fails_the_send_and_a_new_producer_goes_on(bus: MockKafkaBus, cluster: MockCluster) -> None:
    producer = bus.producer()
    await producer.start()
    await producer.send([record("0")])
    cluster.down()
    async with asyncio.timeout(HANGS):
        with pytest.raises(SendFailed) as failed:
            await producer.send([record("1"), record("2")])
        assert failed.value.retryable
        assert failed.value.acked == ()
        with pytest.raises(SendFailed, match="ProducerClosed"):
            await producer.send([record("1")])
        with pytest.raises(Unavailable):
            await bus.producer().start()
        await producer.stop()
    cluster.up()
    producer = bus.producer()
    await producer.start()
    await producer.send([record("1"), record("2")])
    await producer.stop()
    assert [r.value for r in await all_of(bus, 3)] == [b"0", b"1", b"2"]


async def test_a_producer_stops_in_time_though_a_send_is_under_way_in_an_outage(
    bus: MockKafkaBus, cluster: MockCluster
) -> None:
    bus.limit = HANGS
    producer = bus.producer()
    await producer.start()
    cluster.down()
    sending = asyncio.create_task(producer.send([record("1")]))
    await asyncio.sleep(0)
    sending.cancel()
    async with asyncio.timeout(HANGS):
        with pytest.raises(asyncio.CancelledError):
            await sending
        await producer.stop()


async def test_a_broker_that_is_gone_shows_in_ping_and_poll_and_the_member_still_stops(
    bus: MockKafkaBus, cluster: MockCluster
) -> None:
    await bus.ping()
    consumer = bus.consumer(TOPIC.name, "g", from_zero)
    await consumer.start()
    cluster.down()
    async with asyncio.timeout(HANGS):
        with pytest.raises(Unavailable):
            await bus.ping()
        with pytest.raises(Unavailable):
            await bus.end_offsets(TOPIC.name)

        async def noticed() -> bool:
            try:
                await consumer.poll(10, 0.2)
            except Unavailable:
                return True
            return False

        await eventually(noticed)
        await consumer.stop()


async def test_a_member_goes_on_by_itself_after_a_short_outage(bus: MockKafkaBus, cluster: MockCluster) -> None:
    consumer = bus.consumer(TOPIC.name, "g", from_zero)
    await consumer.start()
    cluster.down()
    assert await consumer.poll(10, 0.2) == []
    cluster.up()

    async def sent() -> bool:
        producer = bus.producer()
        try:
            await producer.start()
            await producer.send([record("1")])
        except (Unavailable, SendFailed):
            return False
        finally:
            await producer.stop()
        return True

    await eventually(sent)
    assert [r.value for r in await read(consumer, 1)] == [b"1"]
    await consumer.stop()


async def test_an_offset_that_the_broker_does_not_hold_is_a_lost_position(any_bus: KafkaBus) -> None:
    async def beyond(partitions: frozenset[int]) -> Mapping[int, int]:
        return {partition: 100 * partition for partition in partitions}

    consumer = any_bus.consumer(TOPIC.name, "g", beyond)
    await consumer.start()
    with pytest.raises(PositionLost) as lost:
        await read(consumer, 1)
    assert (lost.value.topic, lost.value.partition, lost.value.offset) == (TOPIC.name, 1, 100)
    await consumer.stop()


async def test_a_topic_begins_after_what_the_broker_has_trimmed(bus: MockKafkaBus) -> None:
    producer = bus.producer()
    await producer.start()
    acks = await producer.send([record("x" * 700_000) for _ in range(12)])  # the mock keeps 5 MB of a partition
    await producer.stop()
    begins, ends = await bus.begin_offsets(TOPIC.name), await bus.end_offsets(TOPIC.name)
    partition = acks[0].partition
    assert 0 < begins[partition] < ends[partition] == 12
    assert begins[1 - partition] == 0


async def test_positions_are_mirrored_to_the_group_and_never_read_from_it(any_bus: KafkaBus) -> None:
    producer = any_bus.producer()
    await producer.start()
    (ack, *_) = await producer.send([record("1"), record("2")])
    await producer.stop()
    consumer = any_bus.consumer(TOPIC.name, "g", from_zero)
    await consumer.start()
    await read(consumer, 2)
    await consumer.commit(ack.partition, 2)
    await consumer.stop()
    assert await committed(any_bus, "g") == {ack.partition: 2}
    again = any_bus.consumer(TOPIC.name, "g", from_zero)
    await again.start()
    assert [r.value for r in await read(again, 2)] == [b"1", b"2"]
    await again.stop()


async def test_a_commit_of_a_member_that_lost_the_partition_changes_nothing(any_bus: KafkaBus) -> None:
    first, second = (any_bus.consumer(TOPIC.name, "g", from_zero) for _ in range(2))
    await first.start()
    await first.commit(0, 7)
    await first.commit(1, 7)
    joining = asyncio.create_task(second.start())

    async def divided() -> bool:
        await first.poll(1, 0.01)
        return joining.done() and len(first.assignment()) == 1

    await eventually(divided)
    (kept,), (lost,) = first.assignment(), second.assignment()
    await second.commit(lost, 3)
    await first.commit(lost, 9)
    await first.commit(kept, 8)

    async def mirrored() -> bool:
        await first.poll(1, 0.01)
        await second.poll(1, 0.01)
        return await committed(any_bus, "g") == {kept: 8, lost: 3}

    await eventually(mirrored)
    await second.stop()
    await first.stop()


async def test_a_topic_keeps_its_partitions_and_one_that_may_not_be_made_is_named(bus: MockKafkaBus) -> None:
    with pytest.raises(ValueError, match="has 2 partitions, not 4"):
        await bus.declare([replace(TOPIC, partitions=4)])
    with pytest.raises(TopicMissing):
        await bus.end_offsets("test.other")


async def test_a_prefix_keeps_topics_and_groups_of_one_cluster_apart(bus: MockKafkaBus, cluster: MockCluster) -> None:
    other = MockKafkaBus(cluster, prefix="other.")
    await other.start()
    await other.declare([TOPIC])
    producer = other.producer()
    await producer.start()
    (ack,) = await producer.send([record("theirs")])
    await producer.stop()
    assert ack.topic == TOPIC.name
    assert sum((await bus.end_offsets(TOPIC.name)).values()) == 0
    assert [r.topic for r in await all_of(other, 1)] == [TOPIC.name]
    await other.stop()


async def test_what_is_not_open_is_unavailable(cluster: MockCluster) -> None:
    bus = MockKafkaBus(cluster)
    for asked in (bus.ping(), bus.declare([TOPIC]), bus.end_offsets(TOPIC.name)):
        with pytest.raises(Unavailable, match="not open"):
            await asked


def test_a_login_over_tls_is_told_to_both_libraries(tmp_path: Any) -> None:
    plain = KafkaConnection(bootstrap="a:1,b:2")
    assert plain.for_aiokafka() == {"bootstrap_servers": "a:1,b:2", "security_protocol": "PLAINTEXT"}
    safe = KafkaConnection(bootstrap="a:1", user="kgl", password="secret", tls=True)
    mine, theirs = safe.for_aiokafka(), safe.for_librdkafka()
    assert mine["security_protocol"] == theirs["security.protocol"] == "SASL_SSL"
    assert mine["sasl_mechanism"] == theirs["sasl.mechanism"] == "SCRAM-SHA-512"
    assert (mine["sasl_plain_username"], mine["sasl_plain_password"]) == ("kgl", "secret")
    assert (theirs["sasl.username"], theirs["sasl.password"]) == ("kgl", "secret")
    assert mine["ssl_context"].check_hostname
    with pytest.raises(FileNotFoundError):
        KafkaConnection(bootstrap="a:1", ca=tmp_path / "none.pem").for_aiokafka()
    assert "secret" not in repr(safe)
