"""The stored positions of a subscription, and the starts and deaths of its workers at one place.

A worker that dies while it handles an event leaves no error behind, only a position that does not move. So
each assignment is counted; where two went by without progress, events go one at a time, and each says before
that it is in flight. Only an event that was alone in flight at three deaths is a killer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kgl_servicekit.database.transaction import Transaction

SUSPICIOUS_STARTS = 3
MOST_DEATHS = 3

_START = """
insert into consumer_position (subscription, topic, incarnation, partition, next, from_start)
select $1, $2, $3, partition, begin, begin = 0 from unnest($4::int[], $5::bigint[]) as i(partition, begin)
on conflict do nothing
"""

_ASSIGN = """
with log as (
    select * from unnest($4::int[], $5::bigint[], $6::bigint[], $7::bigint[]) as i(partition, begin, "end", before)
), stored as (
    select p.partition, p.next as was,
           case when p.next <> l.before or p.next between l.begin and l."end" then p.next else l.begin end as next
    from consumer_position p join log l on l.partition = p.partition
    where p.subscription = $1 and p.topic = $2 and p.incarnation = $3 for update of p
)
update consumer_position p
set next = s.next, from_start = p.from_start and s.next = s.was,
    starts = case when p.started_at = s.next then p.starts + 1 else 1 end, started_at = s.next
from stored s
where p.subscription = $1 and p.topic = $2 and p.incarnation = $3 and p.partition = s.partition
returning p.partition, p.next, p.starts, s.was
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
    """Where a partition goes on, whether earlier starts there came to nothing, and a position that the log lacks."""

    next: int
    suspicious: bool
    lost: int | None = None


async def assign(
    tx: Transaction, command: tuple[Place, Mapping[int, int], Mapping[int, int], Mapping[int, int]]
) -> dict[int, Assigned]:
    """Count a start at each partition's position; a new one begins where the log does.

    The stored positions, and the first and the end offset of each partition, come along in the order in which they
    were read: a position outside of these is lost, and set to the first one. One that has moved since says that
    somebody has read further than the log went then.
    """
    place, stored, begins, ends = command
    begin = [begins.get(partition, 0) for partition in place.partitions]
    await tx.execute(_START, *place.args(), begin)
    end = [ends.get(partition, 0) for partition in place.partitions]
    before = [stored.get(partition, -1) for partition in place.partitions]
    return {
        row["partition"]: Assigned(
            row["next"],
            row["starts"] >= SUSPICIOUS_STARTS,
            None if row["next"] == row["was"] else row["was"],
        )
        for row in await tx.fetch(_ASSIGN, *place.args(), begin, end, before)
    }


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
