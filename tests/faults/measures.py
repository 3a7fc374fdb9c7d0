"""What a class of faults is measured by besides its checks: how long events take (I6), what processes hold (I13)."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import asyncpg

from tests.faults.contract import ITEMS
from tests.faults.history import History
from tests.faults.system import Process

MORE_FDS = 16
"""What is opened only when it is needed first: a pool's eight connections, and a broker's to each of its clients."""
_DELAYS = """
select percentile_cont(0.99) within group (order by extract(epoch from e.at - l.logged_at))
from outbox_log l join effect e on e.event_id = l.event_id and e.hop = 'taken'
where l.topic = $1 and l.key not like 'poisoned-%' and l.logged_at >= $2 and l.logged_at < $3
"""

Held = dict[str, Mapping[str, float]]


async def slowest(dsn: str, since: float, until: float) -> float:
    """Seconds within which 99 % of the events of healthy keys that were written then had their effect; 0 for none."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("analyze outbox_log, effect")  # or it is planned as for a few events
        begin, end = (datetime.fromtimestamp(wall, UTC) for wall in (since, until))
        return round(float(await connection.fetchval(_DELAYS, ITEMS.name, begin, end) or 0.0), 3)
    finally:
        await connection.close()


async def delays(dsn: str, history: History) -> dict[str, float]:
    """`p99_before_s` any fault, and `p99_meanwhile_s`: from the first one until the last was healed."""
    first = next(line for line in history.lines if line.what == "fault").wall
    healed = history.last("heal")
    assert healed is not None
    return {
        "p99_before_s": await slowest(dsn, 0.0, first),
        "p99_meanwhile_s": await slowest(dsn, first, healed.wall),
    }


def held(processes: Sequence[Process]) -> Held:
    """What each process holds now: files and connections (`fds`), and memory (`rss`, MB)."""
    return {process.name: process.resources() for process in processes}


def left_over(before: Held, quiet: Held) -> list[str]:
    """I13: who holds more files and connections in quiet than under load before the faults."""
    return [
        f"{name} holds {quiet[name]['fds']:.0f} files and connections in quiet, and {each['fds']:.0f} before the faults"
        for name, each in before.items()
        if quiet[name]["fds"] > each["fds"] + MORE_FDS
    ]


def growth(before: Held, quiet: Held) -> float:
    """By which factor the memory of the process that grew most is more in quiet than before the faults."""
    return round(max(quiet[name]["rss"] / each["rss"] for name, each in before.items()), 2)
