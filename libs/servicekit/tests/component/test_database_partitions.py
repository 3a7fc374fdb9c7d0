"""Partitions are made in time, whatever time zone a database had before, and an error does not end that."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from loguru import logger

from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.maintenance import maintain
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import Roles

# from and to of each partition, in order
_BOUNDS = """
select (regexp_match(b.bound, 'FROM \\(''([^'']+)'))[1]::timestamptz as lower,
       (regexp_match(b.bound, 'TO \\(''([^'']+)'))[1]::timestamptz as upper
from pg_inherits i join pg_class c on c.oid = i.inhrelid
     cross join lateral (select pg_get_expr(c.relpartbound, c.oid) as bound) b
where i.inhparent = 'outbox_log'::regclass order by lower
"""

# as a database has them whose time zone was the session's when they were made
_LOCAL = """
do $$
declare
    part record;
    day date;
begin
    for part in select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
                where i.inhparent = 'outbox_log'::regclass loop
        execute format('drop table %I', part.relname);
    end loop;
    for day in select generate_series(current_date, current_date + 3, interval '1 day')::date loop
        execute format('create table outbox_log_%s partition of outbox_log for values from (%L) to (%L)',
            to_char(day, 'YYYYMMDD'), day::timestamptz, (day + 1)::timestamptz);
    end loop;
end $$
"""


@pytest.fixture
async def owner(roles: Roles) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    connection = await asyncpg.connect(roles.owner)
    yield connection
    await connection.close()


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/Los_Angeles", "Pacific/Kiritimati"])
async def test_partitions_follow_each_other_whatever_time_zone_the_database_had_before(
    owner: "asyncpg.Connection[asyncpg.Record]", zone: str
) -> None:
    await owner.execute(f"set timezone = '{zone}'")
    await owner.execute(_LOCAL)
    await owner.fetchval("select kgl_outbox_partitions(3, 7)")
    await owner.execute("set timezone = 'America/New_York'")
    await owner.fetchval("select kgl_outbox_partitions(6, 7)")
    assert await owner.fetchval("select kgl_outbox_partitions(6, 7)") == 0
    bounds = await owner.fetch(_BOUNDS)
    assert [row["lower"] for row in bounds[1:]] == [row["upper"] for row in bounds[:-1]]
    assert await owner.fetchval("select $1 = (now() at time zone 'UTC')::date + 7", bounds[-1]["upper"].date())


async def test_after_a_long_pause_there_is_a_place_for_the_events_of_today(
    owner: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    await owner.execute(_LOCAL.replace("current_date", "current_date - 20"))
    await owner.fetchval("select kgl_outbox_partitions(3, 30)")
    bounds = await owner.fetch(_BOUNDS)
    assert [row["lower"] for row in bounds[1:]] == [row["upper"] for row in bounds[:-1]]
    assert await owner.fetchval("select now() < $1 and now() >= $2", bounds[-1]["upper"], bounds[0]["lower"])


async def test_maintenance_tells_of_an_error_of_the_database_and_goes_on(
    roles: Roles, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    told = asyncio.Event()
    sink = logger.add(lambda message: told.set(), filter=lambda record: record["message"] == "maintenance.failed")
    database = Database(roles.service, service="counter")
    await database.start()
    await owner.execute("alter function kgl_inbox_partitions rename to gone")
    maintaining = asyncio.create_task(maintain(database, every=0.02))
    try:
        await asyncio.wait_for(told.wait(), 10)
        await owner.execute("alter function gone rename to kgl_inbox_partitions")

        async def tidied(tx: Transaction, _: None) -> bool:
            name = "'inbox_' || to_char((now() at time zone 'UTC')::date + 3, 'YYYYMMDD')"
            return bool(await tx.fetchval(f"select to_regclass({name}) is not null"))

        await eventually(lambda: database.run((), tidied, None))
    finally:
        logger.remove(sink)
        maintaining.cancel()
        await asyncio.gather(maintaining, return_exceptions=True)
        await database.stop()
