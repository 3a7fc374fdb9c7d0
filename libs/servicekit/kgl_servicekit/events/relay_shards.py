"""Which shards of the outbox this relay owns: a lease row each, with an epoch that fences its predecessor."""

import contextlib
import time
from uuid import uuid4

from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Unavailable

_LEASE = """
with live as (
    select count(distinct owner) as others from relay_shard where expires_at > clock_timestamp() and owner <> $1
), mine as (
    select shard from relay_shard
    where owner = $1 or owner is null or expires_at < clock_timestamp()
    order by (owner is not distinct from $1) desc, shard
    limit (select ceil(count(*)::numeric / ((select others from live) + 1)) from relay_shard)
    for update skip locked
), returned as (
    update relay_shard set expires_at = clock_timestamp()
    where owner = $1 and shard not in (select shard from mine)
)
update relay_shard s
set epoch = epoch + (s.owner is distinct from $1 or s.expires_at < clock_timestamp())::int, owner = $1,
    expires_at = clock_timestamp() + $2 * interval '1 second'
from mine where s.shard = mine.shard
returning s.shard, s.epoch
"""

_FREE = "update relay_shard set expires_at = clock_timestamp() where starts_with(owner, $1)"


class Shards:
    """The leased shards of one relay: `owned` maps each to its epoch. `seconds` is the length of a lease."""

    def __init__(self, database: Database, worker: str, seconds: float) -> None:
        self._database = database
        self._worker = worker
        self._seconds = seconds
        self._until = 0.0
        self.owner = f"{worker}/{uuid4()}"
        self.owned: dict[int, int] = {}

    @property
    def left(self) -> float:
        """Seconds until the lease is over."""
        return max(0.0, self._until - time.monotonic())

    @property
    def overdue(self) -> bool:
        """Whether the lease may be over: nothing may be sent under it any more."""
        return time.monotonic() > self._until

    def doubt(self) -> None:
        """Some are another relay's by now, or nobody's: nothing may be sent before they are asked for anew."""
        self._until = 0.0

    async def keep(self) -> None:
        """Renew the lease when half of it is over; the share depends on how many relays live."""
        if self._until - time.monotonic() >= self._seconds / 2:
            return
        asked = time.monotonic()

        async def lease(tx: Transaction, owner: str) -> dict[int, int]:
            return {row["shard"]: row["epoch"] for row in await tx.fetch(_LEASE, owner, self._seconds)}

        self.owned = await self._database.run((), lease, self.owner)
        self._until = asked + self._seconds

    async def free_predecessor(self) -> None:
        """End the leases of an earlier process of this name: two processes never share a worker name."""

        async def free(tx: Transaction, prefix: str) -> None:
            await tx.execute(_FREE, prefix)

        with contextlib.suppress(Unavailable):
            await self._database.run((), free, f"{self._worker}/")
