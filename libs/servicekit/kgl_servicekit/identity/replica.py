"""The identity replica: the last state of every key of kgl.identity, in the database of each service.

Keys are those of the events (`membership:<workspace>:<user>`, `key:<id>`, ...), and `slug:<slug>`, which
leads to a workspace so that every question is answered by primary keys.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from uuid import UUID

from kgl_contracts.identity import MembershipChanged
from kgl_contracts.topics import IDENTITY
from kgl_servicekit.database.signals import Signals
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.identity.checked import WorkspaceChoice

CLOCK = "clock"
UNREADABLE: Mapping[str, Any] = {"unreadable": True}

# The age counts from the later of two doubts: the tick's own time, and when it was applied here. So neither a
# bus that lags nor a clock of auth that runs ahead makes an old replica look fresh.
# An event that cannot be read or applied is held with its key: until that is settled the key is worth nothing.
# Rows bring the workspace that they belong to along, so that a key is answered by one statement.
READ = """
with wanted as materialized (
    select unnest($1::text[]) as key
    union
    select 'workspace:' || workspace_id from identity_replica
    where key_id = any($1::text[]) and workspace_id is not null
)
select key_id, state, false as held,
       case when key_id = 'clock' then extract(epoch from greatest(
           clock_timestamp() - at, clock_timestamp() - (state ->> 'at')::timestamptz))::float8 end as age
from identity_replica where key_id = any(array(select key from wanted))
union all
select key, null, true, null from held_key where topic = $2 and key = any(array(select key from wanted))
"""

CHOICES = """
select w.state from identity_replica m
join identity_replica w on w.key_id = 'workspace:' || (m.state ->> 'workspace_id')
where m.type = $1 and m.state ->> 'user_id' = $2 and m.state ->> 'deleted' = 'false' and w.state ->> 'deleted' = 'false'
order by w.state ->> 'name' limit 200
"""

R = TypeVar("R")
C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Rows by key, and the age of the replica in seconds (infinite before the first tick)."""

    rows: Mapping[str, Mapping[str, Any]]
    age: float = float("inf")


class Replica(Protocol):
    """Reads the replica of this service."""

    async def read(self, keys: Sequence[str]) -> Snapshot:
        """The rows of these keys, and of the workspaces that they belong to. Raises Unavailable."""
        ...

    async def workspaces(self, user_id: UUID) -> list[WorkspaceChoice]:
        """The workspaces that a user is a member of, by name."""
        ...


class Runs(Protocol):
    """What is needed of the service's database."""

    @property
    def signals(self) -> Signals: ...

    async def run(
        self, workspaces: Sequence[UUID], use_case: Callable[[Transaction, C], Awaitable[R]], command: C
    ) -> R: ...


class DatabaseReplica:
    """The replica in the service's own database."""

    def __init__(self, database: Runs) -> None:
        self._database = database

    async def read(self, keys: Sequence[str]) -> Snapshot:
        return await self._database.run((), read_replica, keys)

    async def workspaces(self, user_id: UUID) -> list[WorkspaceChoice]:
        return await self._database.run((), read_choices, user_id)


async def read_replica(tx: Transaction, keys: Sequence[str]) -> Snapshot:
    """The rows of these keys and of their workspaces, and the replica's age.

    A key whose last event is held has the row UNREADABLE.
    """
    found = await tx.fetch(READ, [CLOCK, *keys], IDENTITY.name)
    rows = {row["key_id"]: row["state"] for row in found if not row["held"] and row["key_id"] != CLOCK}
    rows |= {row["key_id"]: UNREADABLE for row in found if row["held"]}
    ages = [row["age"] for row in found if row["age"] is not None]
    return Snapshot(rows, max(ages, default=float("inf")))


async def read_choices(tx: Transaction, user_id: UUID) -> list[WorkspaceChoice]:
    """The workspaces that a user is a member of, by name."""
    found = await tx.fetch(CHOICES, MembershipChanged.event_type, str(user_id))
    states = [row["state"] for row in found]
    return [WorkspaceChoice(id=state["workspace_id"], slug=state["slug"], name=state["name"]) for state in states]
