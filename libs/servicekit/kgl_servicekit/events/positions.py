"""The stored positions of a subscription, and the starts and deaths of its workers at one place.

A worker that dies while it handles an event leaves no error behind, only a position that does not move. So
each assignment is counted; where two went by without progress, events go one at a time, and each says before
that it is in flight. Only an event that was alone in flight at three deaths is a killer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kgl_servicekit.database.transaction import Transaction

SUSPICIOUS_STARTS = 3
MOST_DEATHS = 3

_START = """
insert into consumer_position (subscription, topic, incarnation, partition, next, from_start)
select $1, $2, $3, partition, 0, true from unnest($4::int[]) as i(partition)
on conflict do nothing
"""

_ASSIGN = """
update consumer_position
set starts = case when started_at = next then starts + 1 else 1 end, started_at = next
where subscription = $1 and topic = $2 and incarnation = $3 and partition = any($4::int[])
returning partition, next, starts
"""

_LOAD = """
select partition, next from consumer_position
where subscription = $1 and topic = $2 and incarnation = $3 and partition = any($4::int[])
"""

_TAKE_OFF = """
update consumer_position set deaths = case when in_flight = $5 then deaths + 1 else 1 end, in_flight = $5
where subscription = $1 and topic = $2 and incarnation = $3 and partition = $4
returning deaths
"""

_CLEAN_STOP = """
update consumer_position set starts = 0, in_flight = null, deaths = 0
where subscription = $1 and topic = $2 and incarnation = $3 and partition = any($4::int[])
  and (starts > 0 or in_flight is not null)
"""


@dataclass(frozen=True, slots=True)
class Place:
    """The positions of a subscription in one life of its topic."""

    subscription: str
    topic: str
    incarnation: str
    partitions: Sequence[int]

    def args(self) -> tuple[str, str, str, list[int]]:
        return self.subscription, self.topic, self.incarnation, list(self.partitions)


@dataclass(frozen=True, slots=True)
class Assigned:
    """Where a partition goes on, and whether earlier starts there came to nothing."""

    next: int
    suspicious: bool


async def assign(tx: Transaction, place: Place) -> dict[int, Assigned]:
    """Count a start at each partition's position; a new partition begins at 0."""
    await tx.execute(_START, *place.args())
    rows = await tx.fetch(_ASSIGN, *place.args())
    return {row["partition"]: Assigned(row["next"], row["starts"] >= SUSPICIOUS_STARTS) for row in rows}


async def load(tx: Transaction, place: Place) -> dict[int, int]:
    """The stored positions."""
    return {row["partition"]: row["next"] for row in await tx.fetch(_LOAD, *place.args())}


async def take_off(tx: Transaction, command: tuple[Place, int, int]) -> bool:
    """Say that the event at this partition and offset is alone in flight; False if that has killed too often."""
    place, partition, offset = command
    deaths = await tx.fetchval(_TAKE_OFF, place.subscription, place.topic, place.incarnation, partition, offset)
    return int(deaths or 0) <= MOST_DEATHS


async def stop_cleanly(tx: Transaction, place: Place) -> None:
    """The starts so far ended in good order."""
    await tx.execute(_CLEAN_STOP, *place.args())
