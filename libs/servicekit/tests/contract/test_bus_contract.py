"""What every transport promises, shown on each of them."""

import asyncio
import itertools
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import asyncpg
import pytest

from kgl_contracts.topics import Topic
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.bus.port import Ack, Bus, Consumer, PositionLost, Record, SendFailed, StoredRecord, TopicMissing
from kgl_servicekit.bus.postgres import PostgresBus, migrate_bus
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.kafka import MockCluster, MockKafkaBus
from kgl_servicekit.testing.kafka_server import KafkaServerBus, server_connection
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import PostgresForTests, Roles
from kgl_servicekit.testing.servers import real_servers

TOPIC = Topic("test.events", partitions=4)
COMPACT = Topic("test.states", partitions=1, compacted=True)
TRANSPORTS = ["memory", "postgres", "kafka", *(["kafka-server"] if real_servers().kafka else [])]
NUMBERS = itertools.count()


@asynccontextmanager
async def migrated(postgres: PostgresForTests) -> AsyncIterator[Roles]:
    async with postgres.database() as roles:
        await migrate_bus(roles.owner, roles.service.partition("//")[2].partition("@")[0])
        yield roles


@pytest.fixture
async def roles(postgres: PostgresForTests) -> AsyncIterator[Roles]:
    async with migrated(postgres) as roles:
        yield roles


@asynccontextmanager
async def transport(name: str, postgres: PostgresForTests, kafka: MockCluster) -> AsyncIterator[Bus]:
    if name == "memory":
        yield MemoryBus()
    elif name == "kafka":
        yield MockKafkaBus(kafka, prefix=f"contract{next(NUMBERS)}.")
    elif name == "kafka-server":
        yield KafkaServerBus(server_connection(real_servers()), prefix=f"test-{uuid7()}.")
    else:
        async with migrated(postgres) as roles:
            yield PostgresBus(roles.service, lease=0.6)


@pytest.fixture(params=TRANSPORTS)
async def bus(request: pytest.FixtureRequest, postgres: PostgresForTests, kafka: MockCluster) -> AsyncIterator[Bus]:
    async with transport(request.param, postgres, kafka) as made:
        await made.start()
        await made.declare([TOPIC, COMPACT])
        yield made
        if isinstance(made, KafkaServerBus):
            await made.forget()
        await made.stop()


@pytest.fixture
async def postgres_bus(roles: Roles) -> AsyncIterator[PostgresBus]:
    bus = PostgresBus(roles.service, lease=0.6)
    await bus.start()
    await bus.declare([TOPIC, COMPACT])
    yield bus
    await bus.stop()


def record(key: str, value: str, topic: Topic = TOPIC) -> Record:
    return Record(topic=topic.name, key=key, headers={"ce_id": value, "note": "grüße ☂"}, value=value.encode())


async def from_zero(partitions: frozenset[int]) -> Mapping[int, int]:
    return dict.fromkeys(partitions, 0)


async def send(bus: Bus, *records: Record) -> list[Ack]:
    producer = bus.producer()
    await producer.start()
    acks = await producer.send(records)
    await producer.stop()
    return acks


async def drain(consumer: Consumer, expected: int) -> list[StoredRecord]:
    found: list[StoredRecord] = []

    async def more() -> bool:
        for batch in await consumer.poll(100, 0.05):
            found.extend(batch.records)
        return len(found) >= expected

    await eventually(more, within=15)
    return found


async def test_records_come_back_whole_and_in_order_for_each_key(bus: Bus) -> None:
    sent = [record(f"key {n % 7} ☃", str(n)) for n in range(100)]
    acks = await send(bus, *sent)
    consumer = bus.consumer(TOPIC.name, "g", from_zero)
    await consumer.start()
    found = await drain(consumer, 100)
    assert {(r.key, r.value, r.headers["note"]) for r in found} == {(r.key, r.value, "grüße ☂") for r in sent}
    for key in {r.key for r in sent}:
        assert [r.value for r in found if r.key == key] == [r.value for r in sent if r.key == key]
    assert [(ack.partition, ack.offset) for ack in acks] == [
        next((f.partition, f.offset) for f in found if f.value == r.value) for r in sent
    ]
    await consumer.stop()


async def test_a_key_has_one_partition_and_end_offsets_count_what_was_sent(bus: Bus) -> None:
    first = await send(bus, record("k", "1"))
    second = await send(bus, record("k", "2"))
    assert first[0].partition == second[0].partition
    assert second[0].offset == first[0].offset + 1
    assert (await bus.end_offsets(TOPIC.name))[first[0].partition] == 2


async def test_a_topic_begins_where_nothing_was_trimmed_and_ends_where_it_goes_on(bus: Bus) -> None:
    assert await bus.begin_offsets(TOPIC.name) == await bus.end_offsets(TOPIC.name) == dict.fromkeys(range(4), 0)
    (ack, _) = await send(bus, record("k", "1"), record("k", "2"))
    assert await bus.begin_offsets(TOPIC.name) == dict.fromkeys(range(4), 0)
    assert await bus.end_offsets(TOPIC.name) == dict.fromkeys(range(4), 0) | {ack.partition: 2}


async def test_a_topic_that_is_not_there_is_told_from_an_outage(bus: Bus) -> None:
    for asked in (bus.incarnation("none"), bus.begin_offsets("none"), bus.end_offsets("none")):
        with pytest.raises(TopicMissing) as missing:
            await asked
        assert missing.value.retry_after == 1


async def test_a_seek_back_reads_again_and_a_pause_holds_one_partition(bus: Bus) -> None:
    (ack,) = await send(bus, record("k", "1"))
    consumer = bus.consumer(TOPIC.name, "g", from_zero)
    await consumer.start()
    await drain(consumer, 1)
    await consumer.seek(ack.partition, 0)
    consumer.pause(ack.partition)
    assert await consumer.poll(10, 0.05) == []
    consumer.resume(ack.partition)
    assert [r.value for r in await drain(consumer, 1)] == [b"1"]
    await consumer.stop()


async def test_a_group_divides_the_partitions_and_takes_over_from_a_member_that_stops(bus: Bus) -> None:
    first, second = (bus.consumer(TOPIC.name, "g", from_zero) for _ in range(2))
    await first.start()
    assert first.assignment() == frozenset(range(4))
    await second.start()

    async def divided() -> bool:
        await first.poll(1, 0.01)
        await second.poll(1, 0.01)
        return len(first.assignment()) == len(second.assignment()) == 2

    await eventually(divided)
    assert not first.assignment() & second.assignment()
    await first.stop()

    async def taken_over() -> bool:
        await second.poll(1, 0.01)
        return second.assignment() == frozenset(range(4))

    await eventually(taken_over)
    await second.stop()


async def test_each_partition_is_read_from_where_its_reader_says(bus: Bus) -> None:
    acks = await send(bus, *(record(f"key {n}", str(n)) for n in range(60)))
    assert {ack.partition for ack in acks} == set(range(4))
    asked: list[frozenset[int]] = []

    async def from_its_number(partitions: frozenset[int]) -> Mapping[int, int]:
        asked.append(partitions)
        return {partition: partition + 1 for partition in partitions}

    consumer = bus.consumer(TOPIC.name, "g", from_its_number)
    await consumer.start()
    expected = {(ack.partition, ack.offset) for ack in acks if ack.offset > ack.partition}
    found = await drain(consumer, len(expected))
    assert {(r.partition, r.offset) for r in found} == expected
    assert asked == [frozenset(range(4))]
    await consumer.stop()


async def test_a_member_that_lost_partitions_reads_nothing_of_them(bus: Bus) -> None:
    first, second = (bus.consumer(TOPIC.name, "g", from_zero) for _ in range(2))
    await first.start()
    joining = asyncio.create_task(second.start())

    async def divided() -> bool:
        await first.poll(1, 0.01)
        if joining.done():
            await second.poll(1, 0.01)
        return joining.done() and len(first.assignment()) == len(second.assignment()) == 2

    await eventually(divided)
    await send(bus, *(record(f"key {n}", str(n)) for n in range(60)))
    mine: list[StoredRecord] = []
    others: list[StoredRecord] = []

    async def all_read() -> bool:
        mine.extend(await drain(first, 0))
        others.extend(await drain(second, 0))
        return len(mine) + len(others) >= 60

    await eventually(all_read)
    assert {r.partition for r in mine} == first.assignment()
    assert {r.partition for r in others} == second.assignment()
    assert len(mine) + len(others) == 60
    await first.stop()
    await second.stop()


async def test_a_stopped_consumer_says_so_and_does_not_join_again(bus: Bus) -> None:
    consumer, other = (bus.consumer(TOPIC.name, "g", from_zero) for _ in range(2))
    await consumer.start()
    await consumer.stop()
    with pytest.raises(Unavailable, match="stopped"):
        await consumer.poll(1, 0.01)
    assert consumer.assignment() == frozenset()
    await other.start()
    assert other.assignment() == frozenset(range(4))
    await other.stop()


async def test_a_batch_comes_back_with_every_odd_key_and_header(bus: Bus) -> None:
    odd = Record(topic=TOPIC.name, key="", headers={"empty": "", "name with ☂": "a\nb", "ce_x": "1"}, value=b"")
    await send(bus, odd)
    consumer = bus.consumer(TOPIC.name, "g", from_zero)
    await consumer.start()
    (found,) = await drain(consumer, 1)
    assert (found.key, found.headers, found.value) == ("", odd.headers, b"")
    await consumer.stop()


async def test_two_groups_read_independently(bus: Bus) -> None:
    await send(bus, record("k", "1"))
    for group in ("a", "b"):
        consumer = bus.consumer(TOPIC.name, group, from_zero)
        await consumer.start()
        assert len(await drain(consumer, 1)) == 1
        await consumer.stop()


async def test_a_group_that_is_forgotten_leaves_the_others_as_they_are(bus: Bus) -> None:
    await send(bus, record("k", "1"))
    for group in ("gone", "kept"):
        consumer = bus.consumer(TOPIC.name, group, from_zero)
        await consumer.start()
        await drain(consumer, 1)
        await consumer.stop()
    await bus.forget_group(TOPIC.name, "gone")
    await bus.forget_group(TOPIC.name, "gone")  # again, and one that never was
    again = bus.consumer(TOPIC.name, "kept", from_zero)
    await again.start()
    assert [r.value for r in await drain(again, 1)] == [b"1"]
    await again.stop()


async def test_a_waiting_poll_is_woken_by_a_record(bus: Bus) -> None:
    consumer = bus.consumer(TOPIC.name, "g", from_zero)
    await consumer.start()
    waiting = asyncio.create_task(consumer.poll(10, 5))
    await asyncio.sleep(0)
    await send(bus, record("k", "1"))
    assert len((await asyncio.wait_for(waiting, 5))[0].records) == 1
    await consumer.stop()


async def test_the_incarnation_of_a_topic_stays_while_it_lives(bus: Bus) -> None:
    before = await bus.incarnation(TOPIC.name)
    await bus.declare([TOPIC])
    assert await bus.incarnation(TOPIC.name) == before


async def test_a_large_value_passes(bus: Bus) -> None:
    await send(bus, record("k", "x" * 65_536))
    consumer = bus.consumer(TOPIC.name, "g", from_zero)
    await consumer.start()
    assert len((await drain(consumer, 1))[0].value) == 65_536
    await consumer.stop()


async def test_no_reader_passes_an_offset_that_may_still_appear(postgres_bus: PostgresBus, roles: Roles) -> None:
    (ack,) = await postgres_bus.producer().send([record("k", "1")])
    slow = await asyncpg.connect(roles.service)
    transaction = slow.transaction()
    await transaction.start()
    await slow.execute(
        "select next from log_partition where topic = $1 and partition = $2 for update", TOPIC.name, ack.partition
    )
    second = asyncio.create_task(postgres_bus.producer().send([record("k", "2")]))
    other_key = next(k for k in map(str, range(50)) if zlib.crc32(k.encode()) % TOPIC.partitions != ack.partition)
    await asyncio.wait_for(postgres_bus.producer().send([record(other_key, "free")]), 5)
    assert not second.done()
    await slow.execute(
        """insert into log_record (topic, partition, "offset", key, headers, value)
           select topic, partition, next, 'k', '{}', 'held' from log_partition where topic = $1 and partition = $2""",
        TOPIC.name,
        ack.partition,
    )
    await slow.execute(
        "update log_partition set next = next + 1 where topic = $1 and partition = $2", TOPIC.name, ack.partition
    )
    await transaction.commit()
    await slow.close()
    assert (await second)[0].offset == 2
    consumer = postgres_bus.consumer(TOPIC.name, "g", from_zero)
    await consumer.start()
    assert [r.value for r in await drain(consumer, 4) if r.key == "k"] == [b"1", b"held", b"2"]
    await consumer.stop()


async def test_the_partitions_of_a_member_that_died_go_to_another_and_its_commit_is_refused(
    postgres_bus: PostgresBus, roles: Roles
) -> None:
    dead, alive = (postgres_bus.consumer(TOPIC.name, "g", from_zero) for _ in range(2))
    await dead.start()
    await alive.start()

    async def taken_over() -> bool:
        await alive.poll(1, 0.01)
        return alive.assignment() == frozenset(range(4))

    await eventually(taken_over)
    await dead.commit(0, 7)
    await alive.commit(1, 5)
    connection = await asyncpg.connect(roles.service)
    rows = await connection.fetch("select partition, position from log_group order by partition")
    await connection.close()
    assert [row["position"] for row in rows] == [0, 5, 0, 0]
    assert await dead.poll(1, 0.01) == []
    await alive.stop()


async def test_compaction_keeps_the_last_record_of_each_key_and_readers_pass_the_holes(
    postgres_bus: PostgresBus,
) -> None:
    await postgres_bus.producer().send([record(key, f"{key}{n}", COMPACT) for n in range(3) for key in "ab"])
    await postgres_bus.compact()
    consumer = postgres_bus.consumer(COMPACT.name, "g", from_zero)
    await consumer.start()
    found = await drain(consumer, 2)
    assert [(r.offset, r.value) for r in found] == [(4, b"a2"), (5, b"b2")]
    await consumer.stop()


async def test_trimming_waits_for_the_slowest_group(postgres_bus: PostgresBus) -> None:
    (ack, *_) = await postgres_bus.producer().send([record("k", str(n)) for n in range(3)])
    fast, slow = (
        postgres_bus.consumer(TOPIC.name, "fast", from_zero),
        postgres_bus.consumer(TOPIC.name, "slow", from_zero),
    )
    for consumer in (fast, slow):
        await consumer.start()
    await fast.commit(ack.partition, 3)
    await slow.commit(ack.partition, 1)
    await postgres_bus.trim(0)
    assert await postgres_bus.begin_offsets(TOPIC.name) == dict.fromkeys(range(4), 0) | {ack.partition: 1}

    async def from_begin(_: frozenset[int]) -> Mapping[int, int]:
        return await postgres_bus.begin_offsets(TOPIC.name)

    late = postgres_bus.consumer(TOPIC.name, "late", from_begin)
    await late.start()
    assert [r.offset for r in await drain(late, 2)] == [1, 2]
    for consumer in (fast, slow, late):
        await consumer.stop()


async def test_a_partition_that_holds_nothing_any_more_begins_at_its_end(postgres_bus: PostgresBus) -> None:
    (ack, _) = await postgres_bus.producer().send([record("k", "1"), record("k", "2")])
    await postgres_bus.trim(0)
    assert (await postgres_bus.begin_offsets(TOPIC.name))[ack.partition] == 2


async def test_what_a_test_trims_in_memory_is_a_lost_position_for_who_has_not_read_it() -> None:
    bus = MemoryBus()
    await bus.declare([TOPIC])
    (ack, _, _) = await send(bus, *(record("k", str(n)) for n in range(3)))
    consumer = bus.consumer(TOPIC.name, "g", from_zero)
    await consumer.start()
    bus.trim(TOPIC.name, ack.partition, 2)
    assert (await bus.begin_offsets(TOPIC.name))[ack.partition] == 2
    with pytest.raises(PositionLost) as lost:
        await consumer.poll(1, 0.01)
    assert (lost.value.partition, lost.value.offset) == (ack.partition, 0)
    await consumer.seek(ack.partition, 2)
    assert [r.value for r in await drain(consumer, 1)] == [b"2"]
    await consumer.stop()


async def test_a_forgotten_group_does_not_keep_the_log_from_being_trimmed(
    postgres_bus: PostgresBus, roles: Roles
) -> None:
    await postgres_bus.producer().send([record("k", "1")])
    consumer = postgres_bus.consumer(TOPIC.name, "gone", from_zero)
    await consumer.start()
    await consumer.stop()

    async def left() -> int:
        connection = await asyncpg.connect(roles.service)
        try:
            count: int = await connection.fetchval("select count(*) from log_record")
            return count
        finally:
            await connection.close()

    await postgres_bus.trim(0)
    assert await left() == 1
    await postgres_bus.forget_group(TOPIC.name, "gone")
    await postgres_bus.trim(0)
    assert await left() == 0


async def test_a_topic_that_was_lost_has_a_new_incarnation(postgres_bus: PostgresBus, roles: Roles) -> None:
    before = await postgres_bus.incarnation(TOPIC.name)
    connection = await asyncpg.connect(roles.owner)
    await connection.execute("delete from log_topic where topic = $1", TOPIC.name)
    await connection.close()
    await postgres_bus.declare([TOPIC])
    assert await postgres_bus.incarnation(TOPIC.name) != before


async def lose(roles: Roles, topic: Topic) -> None:
    connection = await asyncpg.connect(roles.owner)
    await connection.execute("delete from log_record where topic = $1", topic.name)
    await connection.execute("delete from log_topic where topic = $1", topic.name)
    await connection.close()


async def test_a_member_of_a_topic_that_is_lost_says_so_and_begins_anew_when_it_is_declared_again(
    postgres_bus: PostgresBus, roles: Roles
) -> None:
    await postgres_bus.producer().send([record("k", "1"), record("k", "2")])
    member, newer = (postgres_bus.consumer(TOPIC.name, "g", from_zero) for _ in range(2))
    await member.start()
    await drain(member, 2)
    await lose(roles, TOPIC)
    await eventually(raises(member, TopicMissing))
    with pytest.raises(TopicMissing):
        await postgres_bus.consumer(TOPIC.name, "g", from_zero).start()
    await postgres_bus.declare([TOPIC])
    await newer.start()  # the rows of the group are there again, and the positions of the old member are not in them
    await eventually(raises(member, PositionLost))
    await member.stop()
    await postgres_bus.producer().send([record("k", "3")])
    assert [r.value for r in await drain(newer, 1)] == [b"3"]
    await newer.stop()


async def test_a_member_of_a_forgotten_group_says_so_and_does_not_idle(postgres_bus: PostgresBus) -> None:
    member = postgres_bus.consumer(TOPIC.name, "g", from_zero)
    await member.start()
    await postgres_bus.forget_group(TOPIC.name, "g")
    await eventually(raises(member, Unavailable))
    await member.stop()


def raises(consumer: Consumer, problem: type[Unavailable]) -> Callable[[], Awaitable[bool]]:
    async def raised() -> bool:
        try:
            await consumer.poll(1, 0.01)
        except problem:
            return True
        return False

    return raised


@pytest.mark.parametrize("key", ["nul \0", " ".join(map(str, range(50_000)))], ids=["nul", "long"])
async def test_a_record_that_postgres_refuses_is_named_by_what_was_acknowledged_before_it(
    postgres_bus: PostgresBus, key: str
) -> None:
    good = [record(f"key {n}", str(n)) for n in range(5)]
    with pytest.raises(SendFailed, match="refuses") as failed:
        await postgres_bus.producer().send([*good, record(key, "bad"), record("key 0", "behind")])
    assert not failed.value.retryable
    assert len(failed.value.acked) == 5
    consumer = postgres_bus.consumer(TOPIC.name, "g", from_zero)
    await consumer.start()
    found = {(r.partition, r.offset): r.value for r in await drain(consumer, 5)}
    assert [found.pop((ack.partition, ack.offset)) for ack in failed.value.acked] == [r.value for r in good]
    assert not found
    await consumer.stop()


async def test_what_an_operator_can_mend_is_no_fault_of_the_record(postgres_bus: PostgresBus, roles: Roles) -> None:
    owner = await asyncpg.connect(roles.owner)
    role = roles.service.partition("//")[2].partition("@")[0]
    await owner.execute(f'revoke insert on log_record from "{role}"')
    with pytest.raises(SendFailed, match="permission denied") as failed:
        await postgres_bus.producer().send([record("k", "1")])
    assert failed.value.retryable
    await owner.execute(f'grant insert on log_record to "{role}"')
    await owner.close()
    assert [ack.offset for ack in await postgres_bus.producer().send([record("k", "1")])] == [0]


async def test_a_send_to_a_topic_that_was_lost_fails_until_it_is_declared_again(
    postgres_bus: PostgresBus, roles: Roles
) -> None:
    await lose(roles, TOPIC)
    with pytest.raises(SendFailed, match="not there any more") as failed:
        await postgres_bus.producer().send([record("k", "1")])
    assert failed.value.retryable
    await postgres_bus.declare([TOPIC])
    assert [ack.offset for ack in await postgres_bus.producer().send([record("k", "1")])] == [0]


async def test_another_number_of_partitions_is_refused(postgres_bus: PostgresBus) -> None:
    with pytest.raises(ValueError, match="4 partitions for life"):
        await postgres_bus.declare([replace(TOPIC, partitions=8)])


async def test_a_bus_goes_on_after_its_connections_were_cut(postgres_bus: PostgresBus, roles: Roles) -> None:
    consumer = postgres_bus.consumer(TOPIC.name, "g", from_zero)
    await consumer.start()
    superuser = await asyncpg.connect(roles.superuser)
    await superuser.execute(
        """select pg_terminate_backend(pid) from pg_stat_activity
           where datname = current_database() and pid <> pg_backend_pid()"""
    )
    await superuser.close()

    async def sent() -> bool:
        try:
            await postgres_bus.producer().send([record("k", "1")])
        except Exception:
            return False
        return True

    await eventually(sent)

    async def read() -> bool:
        try:
            return bool(await consumer.poll(10, 0.05))
        except Exception:
            return False

    await eventually(read)
    await consumer.stop()
