"""F7 and F8: the database ends, loses its connections, and refuses."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from tests.faults.stage import EventsFault, EventsStage, fault_class

_OURS = "application_name like 'kgl-%' or usename <> 'postgres'"
_MOST_CONNECTIONS = 3 * (8 + 2) + 5
"""Three processes with a pool of 8 and their signals; five may come besides."""


@fault_class
class DatabaseEnds(EventsFault):
    """Killed; and the way to it cut, and silent."""

    name = "F7"
    title = "database killed; connections cut, and silent"
    through_proxy = True

    async def during(self, stage: EventsStage) -> None:
        link = stage.system.database_link
        assert link is not None
        async for number in stage.rounds(every=3.0, at_least=3):
            if number % 3 == 0:
                await stage.system.database.restart(clean=False)
            else:
                link.cut() if number % 3 == 1 else link.half_open()
                await asyncio.sleep(1.5)
                link.heal()
            await stage.healed()


@fault_class
class DatabaseRefuses(EventsFault):
    """Sessions are ended, locks held, connections taken away, and others go first in deadlocks."""

    name = "F8"
    title = "sessions ended, lock held, no connection free, deadlocks"

    async def during(self, stage: EventsStage) -> None:
        held = 20.0 if stage.times.long else 3.0
        async for number in stage.rounds(every=2.0, at_least=4):
            if number % 4 == 0:
                await stage.sql(f"select pg_terminate_backend(pid) from pg_stat_activity where {_OURS}")
            elif number % 4 == 1:
                async with _session(stage) as session, session.transaction():
                    await session.execute("lock table key_position in exclusive mode")
                    await asyncio.sleep(held)
            elif number % 4 == 2:
                await _take_all_connections(stage)
            else:
                await _deadlocks(stage, 10 if stage.times.long else 3)
            await stage.healed()

    async def settled(self, stage: EventsStage) -> None:
        """I13: no connection is left over."""
        (row,) = await stage.sql(
            f"select count(*) from pg_stat_activity where datname = current_database() and ({_OURS})"
        )
        stage.figures["connections"] = row[0]
        if row[0] > _MOST_CONNECTIONS:
            stage.findings.complain("I13", f"{row[0]} connections are open in quiet")


@asynccontextmanager
async def _session(stage: EventsStage) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(stage.system.dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def _take_all_connections(stage: EventsStage) -> None:
    """Whoever asks now is refused; sessions that are open go on."""
    taken: list[asyncpg.Connection] = []
    try:
        with contextlib.suppress(asyncpg.TooManyConnectionsError):
            while True:
                taken.append(await asyncpg.connect(stage.system.dsn))
        await taken[0].fetch(f"select pg_terminate_backend(pid) from pg_stat_activity where {_OURS}")
        await asyncio.sleep(1.0)
    finally:
        for connection in taken:
            connection.terminate()
    stage.figures["connections_taken"] = len(taken)


async def _deadlocks(stage: EventsStage, times: int) -> None:
    """Lock two counters in the other order than commands do."""
    met = 0
    for _ in range(times):
        async with _session(stage) as session:
            try:
                async with session.transaction():
                    # the others give way first; but nobody is held up for long
                    await session.execute("set local deadlock_timeout = '5s'; set local lock_timeout = '1500ms'")
                    for item in ("item-1", "item-0"):
                        await session.execute("update counter set value = value where name = $1", item)
                        await asyncio.sleep(0.2)
            except (asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError):
                met += 1
    stage.figures["locks_given_up"] = stage.figures.get("locks_given_up", 0) + met
