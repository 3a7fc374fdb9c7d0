"""From the outbox to the bus, in order.

A shard belongs to one relay at a time, by a lease row with an epoch. The owner reads pending rows in id
order and without SKIP LOCKED: skipping a locked row would let a later event of the same key pass it.
A row leaves the pending table only after the bus has acknowledged it, and only under the owner's epoch.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

import asyncpg
from loguru import logger

from kgl_contracts.envelope import Envelope
from kgl_servicekit.bus.port import Bus, Producer, Record, SendFailed
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.signals import OUTBOX
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.metrics import RELAY_LATENCY, RELAY_PENDING, RELAYED
from kgl_servicekit.waiting import wait_until_set

Heartbeat = Callable[[datetime], Record]

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

_READ = """
select p.id, p.shard, l.event_id, l.topic, l.key, l.type, l.sequence, l.epoch, l.occurred_at, l.workspace_id,
       l.operation_id, l.causation_id, l.actor, l.traceparent, l.data,
       extract(epoch from clock_timestamp() - l.logged_at)::float8 as age
from outbox_pending p join outbox_log l on l.logged_at = p.logged_at and l.id = p.id
where p.shard = any($1::smallint[]) order by p.id limit $2
"""

_DELETE = """
delete from outbox_pending p
using unnest($2::smallint[], $3::bigint[]) as owned(shard, epoch), relay_shard s
where p.id = any($1::bigint[]) and p.shard = owned.shard and s.shard = owned.shard
  and s.epoch = owned.epoch and s.owner = $4
"""


@dataclass(frozen=True, slots=True)
class _Lease:
    shards: dict[int, int]
    until: float


class Relay:
    """Sends the events of one database. Any number of relays may run; each shard has one owner."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        *,
        worker: str,
        heartbeat: Heartbeat | None = None,
        batch: int = 500,
        lease: float = 6.0,
    ) -> None:
        self._database = database
        self._bus = bus
        self._worker = worker
        self._owner = f"{worker}/{uuid4()}"
        self._heartbeat = heartbeat
        self._batch = batch
        self._lease_seconds = lease
        self._lease = _Lease({}, 0.0)
        self._producer: Producer | None = None
        self._last_beat = 0.0

    async def run(self) -> None:
        """Relay until cancelled. A failure of the bus or the database is waited out."""
        woken = self._database.signals.subscribe(OUTBOX)
        delay = 0.1
        try:
            await self._free_predecessor()
            while True:
                try:
                    woken.clear()
                    more = await self._turn()
                    delay = 0.1
                    if not more:
                        await wait_until_set(woken, 1.0)
                except (Unavailable, SendFailed) as lost:
                    logger.bind(service=self._database.service, error=str(lost)).warning("relay.paused")
                    await self._drop_producer()
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, 5.0)
        finally:
            self._database.signals.unsubscribe(OUTBOX, woken)
            await self._drop_producer()

    async def _free_predecessor(self) -> None:
        """End the leases of an earlier process of this name: two processes never share a worker name."""

        async def free(tx: Transaction, prefix: str) -> None:
            await tx.execute(
                "update relay_shard set expires_at = clock_timestamp() where starts_with(owner, $1)", prefix
            )

        try:
            await self._database.run((), free, f"{self._worker}/")
        except Unavailable:
            return

    async def _turn(self) -> bool:
        """Send one batch; the answer says whether there may be more."""
        if self._lease.until - time.monotonic() < self._lease_seconds / 2:
            await self._renew()
        if not self._lease.shards:
            return False
        rows, at = await self._database.run((), _read, (list(self._lease.shards), self._batch))
        RELAY_PENDING.labels(self._database.service).set(len(rows))
        if time.monotonic() > self._lease.until:
            return True  # the shards may be another relay's by now: ask for them again before anything is sent
        if rows:
            await self._send(rows)
        complete = len(rows) < self._batch
        if complete:
            await self._beat(at)
        return not complete

    async def _renew(self) -> None:
        asked = time.monotonic()

        async def lease(tx: Transaction, owner: str) -> dict[int, int]:
            rows = await tx.fetch(_LEASE, owner, self._lease_seconds)
            return {row["shard"]: row["epoch"] for row in rows}

        shards = await self._database.run((), lease, self._owner)
        self._lease = _Lease(shards, asked + self._lease_seconds)

    async def _send(self, rows: Sequence[asyncpg.Record]) -> None:
        producer = await self._open_producer()
        try:
            acked = len(await producer.send([self._record(row) for row in rows]))
        except SendFailed as failed:
            await self._forget(rows[: len(failed.acked)])
            raise
        await self._forget(rows[:acked])

    async def _forget(self, rows: Sequence[asyncpg.Record]) -> None:
        if not rows:
            return
        shards, epochs = list(self._lease.shards), list(self._lease.shards.values())

        async def delete(tx: Transaction, ids: list[int]) -> None:
            await tx.execute(_DELETE, ids, shards, epochs, self._owner)

        await self._database.run((), delete, [row["id"] for row in rows])
        service = self._database.service
        RELAYED.labels(service).inc(len(rows))
        RELAY_LATENCY.labels(service).observe(max(0.0, rows[0]["age"]))

    async def _beat(self, at: datetime) -> None:
        """Tell the readers of the one-shard topic that all that was committed before `at` has been sent."""
        if self._heartbeat is None or 0 not in self._lease.shards or time.monotonic() - self._last_beat < 1.0:
            return
        producer = await self._open_producer()
        await producer.send([self._heartbeat(at)])
        self._last_beat = time.monotonic()

    def _record(self, row: asyncpg.Record) -> Record:
        envelope = Envelope(
            id=row["event_id"],
            type=row["type"],
            source=self._database.service,
            time=row["occurred_at"],
            workspace_id=row["workspace_id"],
            operation_id=row["operation_id"],
            causation_id=row["causation_id"],
            actor_id=row["actor"],
            sequence=row["sequence"],
            source_epoch=row["epoch"],
            traceparent=row["traceparent"],
        )
        return Record(topic=row["topic"], key=row["key"], headers=envelope.headers(), value=row["data"])

    async def _open_producer(self) -> Producer:
        if self._producer is None:
            producer = self._bus.producer()
            await producer.start()
            self._producer = producer
        return self._producer

    async def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()


async def _read(tx: Transaction, asked: tuple[list[int], int]) -> tuple[list[asyncpg.Record], datetime]:
    # the time is taken first: whatever was committed before it is seen by the read that follows
    at = await tx.fetchval("select clock_timestamp()")
    return await tx.fetch(_READ, *asked), at
