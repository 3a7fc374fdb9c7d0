"""What waits in the outbox is told, whether a relay runs or not."""

import asyncio

from prometheus_client import REGISTRY

from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.events.outbox_watch import pending, watch_outbox
from kgl_servicekit.events.relay import Relay
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.counter import count_and_tell
from kgl_servicekit.testing.events import WORKSPACE, running
from kgl_servicekit.testing.polling import eventually


def _measured(database: Database, name: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"service": database.service})


async def test_events_that_no_relay_takes_are_counted_and_get_old(database: Database, bus: MemoryBus) -> None:
    for _ in range(3):
        await database.run(WORKSPACE, count_and_tell, uuid7())
    await asyncio.sleep(0.01)
    async with running(lambda: watch_outbox(database)):
        await eventually(lambda: _told(database, 3))
    assert (_measured(database, "kgl_outbox_oldest_seconds") or 0) >= 0.01
    async with running(Relay(database, bus, worker="a").run):
        await eventually(lambda: _empty(database))
    async with running(lambda: watch_outbox(database)):
        await eventually(lambda: _told(database, 0))
    assert _measured(database, "kgl_outbox_oldest_seconds") == 0


async def _told(database: Database, events: int) -> bool:
    return _measured(database, "kgl_outbox_pending_events") == events


async def _empty(database: Database) -> bool:
    return (await database.run((), pending, None)).events == 0
