"""A refill: of what, and beside the work of every hour, which drops what the outbox need not keep any longer."""

import asyncio

import asyncpg

from kgl_contracts.topics import AUDIT, DOCUMENTS
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.maintenance import OUTBOX_DAYS, tidy
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.refill import Refilled, refill, refill_lost
from kgl_servicekit.events.relay import Relay
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.counter import count_and_tell
from kgl_servicekit.testing.events import WORKSPACE, running
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import Roles
from kgl_servicekit.testing.races import held_open, waiting_for_locks

_AN_OLD_EVENT = """
create table outbox_log_20200101 partition of outbox_log
    for values from ('2020-01-01 00:00:00+00') to ('2020-01-02 00:00:00+00');
update outbox_log set logged_at = '2020-01-01 12:00:00+00';
delete from outbox_pending
"""


async def test_an_old_event_that_is_to_leave_again_is_kept_until_it_has(database: Database, roles: Roles) -> None:
    await database.run(WORKSPACE, count_and_tell, uuid7())
    owner = await asyncpg.connect(roles.owner)
    await owner.execute(_AN_OLD_EVENT)
    await owner.close()
    async with held_open(database, (), refill, [DOCUMENTS.name]) as refilling:
        tidying = asyncio.create_task(database.run((), tidy, OUTBOX_DAYS))
        await waiting_for_locks(roles.service)
    assert await refilling == 1
    await tidying

    assert await database.run((), leaving, DOCUMENTS.name) == 1


async def test_what_the_bus_has_lost_is_found_refilled_and_audited_and_nothing_else(
    database: Database, bus: MemoryBus
) -> None:
    assert await refill_lost(database, bus) == Refilled((), 0)
    async with running(Relay(database, bus, worker="a").run):
        await database.run(WORKSPACE, count_and_tell, uuid7())
        await eventually(lambda: sent(database))
    assert await refill_lost(database, bus) == Refilled((), 0)
    bus.forget(DOCUMENTS.name)
    assert await refill_lost(database, bus) == Refilled((DOCUMENTS.name,), 1)
    assert await database.run((), leaving, DOCUMENTS.name) == 1
    assert await database.run((), leaving, AUDIT.name) == 1
    assert await refill_lost(database, bus) == Refilled((), 0)


async def leaving(tx: Transaction, topic: str) -> int:
    count: int = await tx.fetchval(
        "select count(*) from outbox_pending join outbox_log using (id, logged_at) where topic = $1", topic
    )
    return count


async def sent(database: Database) -> bool:
    return await database.run((), leaving, DOCUMENTS.name) == 0
