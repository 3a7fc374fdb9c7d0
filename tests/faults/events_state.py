"""What the stores of the small service hold after a run, read as they are."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from tests.faults.contract import ITEMS, TAKEN


@dataclass(frozen=True, slots=True)
class EventsState:
    """Rows as tuples, in the order in which they were written.

    written    (command, item, number, trouble, call)
    effects    (hop, item, number, sequence) in order of their ids
    held       (subscription, key, sequence, state, reason, type, attempts)
    sequences  (topic, key, count, last) of the outbox
    pending    rows of the outbox that the bus has not acknowledged
    """

    written: Sequence[tuple[str, str, int, str | None, bool]]
    effects: Sequence[tuple[str, str, int, int | None]]
    held: Sequence[tuple[str, str, int | None, str, str, str | None, int]] = ()
    sequences: Sequence[tuple[str, str, int, int]] = ()
    pending: int = 0
    letters: Sequence[dict[str, Any]] = field(default_factory=tuple)


async def collect(dsn: str) -> EventsState:
    """Read all, as a superuser."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            written = await connection.fetch("select command::text, item, number, trouble, call from written")
            effects = await connection.fetch("select hop, item, number, sequence from effect order by id")
            held = await connection.fetch(
                """select subscription, key, sequence, state, reason, type, attempts from held_event
                   order by subscription, key, sequence, id"""
            )
            sequences = await connection.fetch(
                """select topic, key, count(*), max(sequence) from outbox_log where topic = any($1::text[])
                   group by topic, key""",
                [ITEMS.name, TAKEN.name],
            )
            pending = await connection.fetchval("select count(*) from outbox_pending")
            letters = await connection.fetch(
                """select subscription, topic, partition, "offset", key, headers::text, value, error, reason, attempts
                   from held_event where state = 'dead' order by id"""
            )
    finally:
        await connection.close()
    return EventsState(
        [tuple(row) for row in written],
        [tuple(row) for row in effects],
        [tuple(row) for row in held],
        [tuple(row) for row in sequences],
        pending,
        [dict(row) for row in letters],
    )


_STANDING = """
select (select count(*) from written) as written,
       (select count(*) from written w where call) as calls,
       (select count(*) from effect where hop = 'taken') as taken,
       (select count(*) from effect where hop = 'followed') as followed,
       (select count(*) from effect where hop = 'called') as called,
       (select count(*) from held_event where subscription = 'faults.items' and state <> 'dead' and reason <> 'behind')
           as trying,
       (select count(*) from held_event where subscription = 'faults.items' and topic = $1) as held,
       (select count(*) from outbox_pending) as pending
"""


async def settle(dsn: str, within: float, injected: int = 0) -> bool:
    """Wait until everything that was written has had its effect, or is a dead letter or behind one.

    `injected` records did not come from commands, and end as dead letters. False when that takes too long; what is
    missing then is for the checks to say.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + within
    while loop.time() < until:
        try:
            connection = await asyncpg.connect(dsn, timeout=5)
        except (OSError, asyncpg.PostgresError):
            await asyncio.sleep(0.2)
            continue
        try:
            (now,) = await connection.fetch(_STANDING, ITEMS.name)
        finally:
            await connection.close()
        through = now["taken"] + now["held"] - injected >= now["written"] and now["followed"] >= now["taken"]
        if through and now["called"] >= now["calls"] and now["trying"] == 0 and now["pending"] == 0:
            return True
        await asyncio.sleep(0.25)
    return False


async def progress(connection: asyncpg.Connection) -> int:
    """How many effects there are; grows while the path from a command to an effect works."""
    return int(await connection.fetchval("select coalesce(max(id), 0) from effect"))
