"""The postgres transport: locks that its members take, deadlocks, and records that are not there any more."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import asyncpg
import pytest

from kgl_contracts.topics import Topic
from kgl_servicekit.bus.port import PositionLost, Record
from kgl_servicekit.bus.postgres import PostgresBus, migrate_bus
from kgl_servicekit.database.connection import Connection
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.testing.postgres import PostgresForTests, Roles
from kgl_servicekit.testing.races import waiting_for_locks

TOPIC = Topic("test.events", partitions=4)


@pytest.fixture
async def roles(postgres: PostgresForTests) -> AsyncIterator[Roles]:
    async with postgres.database() as roles:
        await migrate_bus(roles.owner, roles.service.partition("//")[2].partition("@")[0])
        await _read_tables_whole(roles)
        yield roles


async def _read_tables_whole(roles: Roles) -> None:
    """The planner's choice for small tables, and the one in which rows come in the order of the disk."""
    owner = await asyncpg.connect(roles.superuser)
    name = await owner.fetchval("select current_database()")
    for way in ("indexscan", "bitmapscan"):
        await owner.execute(f'alter database "{name}" set enable_{way} = off')
    await owner.close()


@pytest.fixture
async def bus(roles: Roles) -> AsyncIterator[PostgresBus]:
    bus = PostgresBus(roles.service, worker="w")
    await bus.start()
    await bus.declare([TOPIC])
    yield bus
    await bus.stop()


@pytest.fixture
async def other(roles: Roles) -> AsyncIterator[Connection]:
    """A transaction of somebody else, who is in no hurry to look for deadlocks."""
    connection = await asyncpg.connect(roles.superuser)
    await connection.execute("set deadlock_timeout = '1min'")
    await connection.execute("begin")
    yield connection
    await connection.close()


async def from_zero(partitions: frozenset[int]) -> Mapping[int, int]:
    return dict.fromkeys(partitions, 0)


async def _leave(bus: PostgresBus, _roles: Roles) -> Callable[[], Awaitable[None]]:
    member = bus.consumer(TOPIC.name, "g", from_zero)
    await member.start()
    await member.commit(0, 1)  # moves the row to the end of its table
    return member.stop


async def _divide(bus: PostgresBus, roles: Roles) -> Callable[[], Awaitable[None]]:
    await (await _leave(bus, roles))()
    return bus.consumer(TOPIC.name, "g", from_zero).start


async def _follow_the_dead(bus: PostgresBus, roles: Roles) -> Callable[[], Awaitable[None]]:
    await _leave(bus, roles)
    successor = PostgresBus(roles.service, worker="w")

    async def start_and_stop() -> None:
        await successor.start()
        await successor.stop()

    return start_and_stop


async def _forget(bus: PostgresBus, roles: Roles) -> Callable[[], Awaitable[None]]:
    await _leave(bus, roles)
    return lambda: bus.forget_group(TOPIC.name, "g")


@pytest.mark.parametrize("prepared", [_leave, _divide, _follow_the_dead, _forget])
async def test_whoever_changes_a_group_locks_its_partitions_in_order(
    bus: PostgresBus,
    roles: Roles,
    other: Connection,
    prepared: Callable[[PostgresBus, Roles], Awaitable[Callable[[], Awaitable[None]]]],
) -> None:
    act = await prepared(bus, roles)
    await other.execute("select from log_group where partition = 0 for update")
    acting = asyncio.ensure_future(act())
    await waiting_for_locks(roles.superuser)
    await other.execute("select from log_group where partition > 0 for update nowait")
    await other.execute("rollback")
    await acting


async def test_a_deadlock_is_an_outage_that_the_next_try_mends(
    bus: PostgresBus, roles: Roles, other: Connection
) -> None:
    member = bus.consumer(TOPIC.name, "g", from_zero)
    await member.start()
    await member.stop()
    slow = await asyncpg.connect(roles.service)
    await slow.execute("begin; lock table log_member in share mode")
    await other.execute("select from log_group where partition = 0 for update")
    again = bus.consumer(TOPIC.name, "g", from_zero)
    joining = asyncio.create_task(again.start())
    await waiting_for_locks(roles.superuser)  # it has the topic, and cannot write that it is a member
    crossing = asyncio.create_task(other.execute("select from log_topic for update"))
    await waiting_for_locks(roles.superuser, 2)
    await slow.close()
    with pytest.raises(Unavailable, match="others go first"):
        await joining
    await crossing
    await other.execute("rollback")
    last = bus.consumer(TOPIC.name, "g", from_zero)
    await last.start()
    assert last.assignment() == frozenset(range(4))
    await last.stop()


async def _sent(bus: PostgresBus, count: int) -> int:
    """So many records of one key, and their partition."""
    records = [Record(topic=TOPIC.name, key="k", headers={}, value=b"%d" % n) for n in range(count)]
    return (await bus.producer().send(records))[0].partition


@pytest.mark.parametrize("kept", [0, 1])
async def test_what_was_trimmed_is_a_lost_position_for_who_has_not_read_it(bus: PostgresBus, kept: int) -> None:
    partition = await _sent(bus, 3)
    member = bus.consumer(TOPIC.name, "g", from_zero)
    await member.start()
    await member.commit(partition, 3 - kept)
    await bus.trim(0)
    with pytest.raises(PositionLost) as lost:
        await member.poll(10, 0.01)
    assert (lost.value.partition, lost.value.offset) == (partition, 0)
    await _sent(bus, 1)
    await member.seek(partition, 3 - kept)
    (batch,) = await member.poll(10, 5)
    assert [stored.offset for stored in batch.records] == list(range(3 - kept, 4))
    await member.stop()


async def test_a_hole_behind_a_record_that_is_kept_is_no_lost_position(bus: PostgresBus, roles: Roles) -> None:
    partition = await _sent(bus, 3)
    member = bus.consumer(TOPIC.name, "g", from_zero)
    await member.start()
    owner = await asyncpg.connect(roles.owner)
    await owner.execute('delete from log_record where "offset" = 1')
    for offset in (0, 2):
        (batch,) = await member.poll(1, 5)
        assert (batch.partition, [stored.offset for stored in batch.records]) == (partition, [offset])
    await owner.execute('delete from log_record where "offset" = 2')
    await owner.close()
    await member.seek(partition, 1)
    assert await member.poll(1, 0.01) == []
    await member.stop()


async def test_a_topic_that_is_made_anew_begins_empty(bus: PostgresBus, roles: Roles) -> None:
    partition = await _sent(bus, 3)
    owner = await asyncpg.connect(roles.owner)
    await owner.execute("delete from log_topic")
    await bus.declare([TOPIC])
    assert await _sent(bus, 1) == partition
    await bus.declare([TOPIC])
    assert await owner.fetchval("select count(*) from log_record") == 1
    await owner.close()
    assert await bus.end_offsets(TOPIC.name) == dict.fromkeys(range(4), 0) | {partition: 1}


async def test_groups_of_one_reading_that_was_killed_are_forgotten_and_keep_nothing_from_being_trimmed(
    bus: PostgresBus, roles: Roles
) -> None:
    partition = await _sent(bus, 3)
    connection = await asyncpg.connect(roles.superuser)
    members = {
        name: bus.consumer(TOPIC.name, name, from_zero) for name in ("g", "g@drift-1", "g@rebuild-2", "g@rebuild-3")
    }
    for name, member in members.items():
        await member.start()
        await member.commit(partition, 3 if name == "g" else 1)
    await connection.execute(
        "update log_member set expires_at = now() - interval '1 minute' where grp <> 'g@rebuild-2'"
    )
    await connection.execute(
        """update log_group set used_at = now() - interval '2 days'
           where grp <> 'g@rebuild-3' or partition <> $1""",
        partition,
    )
    await bus.forget_abandoned(86400)
    left = "select distinct grp from log_group order by grp"
    assert [row["grp"] for row in await connection.fetch(left)] == ["g", "g@rebuild-2", "g@rebuild-3"]
    await connection.execute("update log_group set used_at = now() - interval '2 days'")
    await members["g@rebuild-2"].stop()
    await bus.trim(0)
    assert (await bus.begin_offsets(TOPIC.name))[partition] == 1
    await bus.forget_abandoned(86400)
    await bus.trim(0)
    assert [row["grp"] for row in await connection.fetch(left)] == ["g"]
    assert (await bus.begin_offsets(TOPIC.name))[partition] == 3
    again = bus.consumer(TOPIC.name, "g@rebuild-3", from_zero)
    await again.start()
    assert again.assignment() == frozenset(range(4))
    for member in (*members.values(), again):
        await member.stop()
    await connection.close()


async def test_a_log_of_an_earlier_release_learns_when_its_groups_were_used(bus: PostgresBus, roles: Roles) -> None:
    await bus.consumer(TOPIC.name, "g@drift-1", from_zero).start()
    connection = await asyncpg.connect(roles.superuser)
    await connection.execute("alter table log_group drop column used_at")
    for _ in range(2):
        await migrate_bus(roles.owner, roles.service.partition("//")[2].partition("@")[0])
    await bus.forget_abandoned(86400)
    assert await connection.fetchval("select count(*) from log_group where used_at > now() - interval '1 minute'") == 4
    await connection.close()
