"""From the outbox to the bus, in order.

A shard belongs to one relay at a time (`relay_shards.py`). The owner reads pending rows in id order and
without SKIP LOCKED: skipping a locked row would let a later event of the same key pass it. A row leaves the
pending table only after the bus has acknowledged it, and only under the owner's epoch. A row that the bus
refuses for good stays, and its key with it, until an operator decides.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime

import asyncpg
from loguru import logger

from kgl_contracts.envelope import Envelope
from kgl_contracts.topics import ALL
from kgl_servicekit.bus.port import Ack, Bus, Producer, Record, SendFailed
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.signals import OUTBOX
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.events.relay_memory import BrokerLostData, Memory
from kgl_servicekit.events.relay_shards import Shards
from kgl_servicekit.failpoints import failpoint
from kgl_servicekit.metrics import RELAY_LATENCY, RELAY_LOST, RELAY_PENDING, RELAY_REFUSED, RELAYED
from kgl_servicekit.waiting import wait_until_set

Heartbeat = Callable[[datetime], Record]

_PAUSE_LIMIT = 5.0
_IDLE = 2.0  # a signal wakes it; this is for the one that was lost

_READ = """
select p.id, p.shard, l.event_id, l.topic, l.key, l.type, l.sequence, l.epoch, l.occurred_at, l.workspace_id,
       l.operation_id, l.causation_id, l.actor, l.traceparent, l.data,
       extract(epoch from clock_timestamp() - l.logged_at)::float8 as age
from outbox_pending p join outbox_log l on l.logged_at = p.logged_at and l.id = p.id
where p.shard = any($1::smallint[])
  and not exists (select from relay_refused r where r.topic = l.topic and r.key = l.key)
order by p.id limit $2
"""

_DELETE = """
delete from outbox_pending p
using unnest($2::smallint[], $3::bigint[]) as owned(shard, epoch), relay_shard s
where p.id = any($1::bigint[]) and p.shard = owned.shard and s.shard = owned.shard
  and s.epoch = owned.epoch and s.owner = $4
"""

_ALL_SENT_AT = """
select clock_timestamp() where not exists (select from relay_refused where topic = any($1::text[]))
"""
_ONE_SHARD = [topic.name for topic in ALL if topic.one_shard]

_REFUSE = """
insert into relay_refused (topic, key, id, error) values ($1, $2, $3, $4) on conflict do nothing
"""


class Relay:
    """Sends the events of one database. Any number of relays may run; each shard has one owner.

    While the bus has lost what it had acknowledged, `lost` says so and nothing is sent until a refill.
    """

    def __init__(
        self,
        database: Database,
        bus: Bus,
        *,
        worker: str,
        heartbeat: Heartbeat | None = None,
        batch: int = 1000,
        lease: float = 6.0,
    ) -> None:
        self._database = database
        self._bus = bus
        self._shards = Shards(database, worker, lease)
        self._memory = Memory(database, bus)
        self._heartbeat = heartbeat
        self._idle = 1.0 if heartbeat is not None else min(_IDLE, lease / 3)
        self._batch = batch
        self._producer: Producer | None = None
        self._last_beat = 0.0
        self.lost: BrokerLostData | None = None
        service = database.service
        self._pending, self._relayed = RELAY_PENDING.labels(service), RELAYED.labels(service)
        self._latency, self._lost_gauge = RELAY_LATENCY.labels(service), RELAY_LOST.labels(service)
        self._refused = RELAY_REFUSED.labels(service)

    async def run(self) -> None:
        """Relay until cancelled. A failure of the bus or the database is waited out."""
        woken = self._database.signals.subscribe(OUTBOX)
        delay = 0.1
        try:
            await self._shards.free_predecessor()
            while True:
                try:
                    woken.clear()
                    more = await self._turn()
                    self._note_lost(None)
                    delay = 0.1
                    if not more:
                        await wait_until_set(woken, self._idle)
                except (Unavailable, SendFailed, BrokerLostData) as out:
                    self._note_lost(out if isinstance(out, BrokerLostData) else None)
                    logger.bind(service=self._database.service, error=str(out)).warning("relay.paused")
                    await self._drop_producer()
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, _PAUSE_LIMIT)
        finally:
            self._database.signals.unsubscribe(OUTBOX, woken)
            await self._drop_producer()

    def _note_lost(self, lost: BrokerLostData | None) -> None:
        self.lost = lost
        self._lost_gauge.set(0 if lost is None else 1)

    async def _turn(self) -> bool:
        """Send one batch; the answer says whether there may be more."""
        await self._shards.keep()
        if not self._shards.owned:
            return False
        rows, at = await self._database.run((), self._read, list(self._shards.owned))
        self._pending.set(len(rows))
        if self._shards.overdue:
            return True  # the shards may be another relay's by now: ask for them again before anything is sent
        failpoint("relay.read")
        if rows:
            await self._send(rows)
        complete = len(rows) < self._batch
        if complete:
            await self._beat(at)
        return not complete

    async def _read(self, tx: Transaction, shards: list[int]) -> tuple[list[asyncpg.Record], datetime | None]:
        # the time is taken first: whatever was committed before it is seen by the read that follows
        # and while an event of the one-shard topic is refused, that would not be true
        at = None if self._heartbeat is None else await tx.fetchval(_ALL_SENT_AT, _ONE_SHARD)
        return await tx.fetch(_READ, shards, self._batch), at

    async def _send(self, rows: Sequence[asyncpg.Record]) -> None:
        producer = await self._open_producer()
        try:
            async with asyncio.timeout(self._shards.left):  # what is late would come after a later owner's events
                acks = await producer.send([self._record(row) for row in rows])
        except TimeoutError as late:
            raise SendFailed("the lease of the shards was over before all was acknowledged") from late
        except SendFailed as failed:
            await self._forget(rows, failed.acked)
            if not failed.retryable and len(failed.acked) < len(rows):
                await self._refuse(rows[len(failed.acked)], failed)
            raise
        failpoint("relay.sent")
        await self._forget(rows, acks)
        failpoint("relay.forgotten")

    async def _forget(self, rows: Sequence[asyncpg.Record], acks: Sequence[Ack]) -> None:
        """Take the acknowledged rows, the first of all, out of the pending ones, and remember where they lie."""
        if not acks:
            return
        acked = rows[: len(acks)]
        owned = self._shards.owned

        async def delete(tx: Transaction, ids: list[int]) -> None:
            # what a crash of the server takes back of this is sent again, and settled as a duplicate
            await tx.execute("set local synchronous_commit = off")
            if await tx.execute(_DELETE, ids, list(owned), list(owned.values()), self._shards.owner) != "DELETE 0":
                await self._memory.remember(tx, acks)

        await self._database.run((), delete, [row["id"] for row in acked])
        self._relayed.inc(len(acked))
        self._latency.observe(max(0.0, acked[0]["age"]))

    async def _refuse(self, row: asyncpg.Record, failed: SendFailed) -> None:
        """Hold the key of a row that the bus will never take, so that the others go on."""

        async def refuse(tx: Transaction, error: str) -> None:
            await tx.execute(_REFUSE, row["topic"], row["key"], row["id"], error)

        await self._database.run((), refuse, str(failed)[:2000])
        self._refused.inc()
        logger.bind(topic=row["topic"], type=row["type"], error=str(failed)).error("relay.event_refused")

    async def _beat(self, at: datetime | None) -> None:
        """Tell the readers of the one-shard topic that all that was committed before `at` has been sent."""
        if self._heartbeat is None or at is None or 0 not in self._shards.owned:
            return
        if time.monotonic() - self._last_beat < 1.0:
            return
        producer = await self._open_producer()
        await producer.send([self._heartbeat(at)])
        self._last_beat = time.monotonic()

    def _record(self, row: asyncpg.Record) -> Record:
        envelope = Envelope(
            row["event_id"],
            row["type"],
            self._database.service,
            row["occurred_at"],
            row["workspace_id"],
            row["operation_id"],
            row["causation_id"],
            row["actor"],
            row["sequence"],
            row["epoch"],
            row["traceparent"],
        )
        return Record(topic=row["topic"], key=row["key"], headers=envelope.headers(), value=row["data"])

    async def _open_producer(self) -> Producer:
        """The producer; before a new one sends, the bus must still have what it acknowledged."""
        if self._producer is None:
            await self._memory.check()
            producer = self._bus.producer()
            await producer.start()
            self._producer = producer
        return self._producer

    async def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()
