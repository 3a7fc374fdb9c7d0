"""From the outbox to the bus, in order.

A shard belongs to one relay at a time (`relay_shards.py`). The owner reads pending rows in id order and
without SKIP LOCKED: skipping a locked row would let a later event of the same key pass it. A row leaves the
pending table only after the bus has acknowledged it, and only under the owner's epoch: in the transaction
that reads the next rows. A row that the bus refuses for good stays, and its key with it, until an operator
decides.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
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
from kgl_servicekit.metrics import RELAY_LATENCY, RELAY_LOST, RELAY_REFUSED, RELAYED
from kgl_servicekit.waiting import wait_until_set

Heartbeat = Callable[[datetime], Record]
Acked = tuple[Sequence[int], Sequence[Ack], Mapping[int, int]]
"""Rows that the bus has, where they lie there, and the epochs of the shards under which they were sent."""

_PAUSE_LIMIT = 5.0
_IDLE = 2.0  # a signal wakes it; this is for the one that was lost

# the columns after `age` are those of the envelope, in its order
_READ = """
select p.id, l.topic, l.key, l.data, extract(epoch from clock_timestamp() - l.logged_at)::float8 as age,
       l.event_id, l.type, $3::text, l.occurred_at, l.workspace_id, l.operation_id, l.causation_id, l.actor,
       l.sequence, l.epoch, l.traceparent
from outbox_pending p join outbox_log l on l.logged_at = p.logged_at and l.id = p.id
where p.shard = any($1::smallint[])
  and l.topic || ' ' || l.key <> all (array(select topic || ' ' || key from relay_refused))
order by p.id limit $2
"""

# The shards are locked, so that a refill that ends their epochs meanwhile keeps all that it puts back.
_DELETE = """
with owned as (
    select s.shard from relay_shard s join unnest($2::smallint[], $3::bigint[]) as o(shard, epoch) using (shard, epoch)
    where s.owner = $4 for share of s
)
delete from outbox_pending where id = any($1::bigint[]) and shard in (select shard from owned)
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
        lives_every: float = 5.0,
    ) -> None:
        self._database = database
        self._bus = bus
        self._shards = Shards(database, worker, lease)
        self._memory = Memory(database, bus)
        self._heartbeat = heartbeat
        self._idle = 1.0 if heartbeat is not None else min(_IDLE, lease / 3)
        self._batch = batch
        self._producer: Producer | None = None
        self._acked: Acked = [], [], {}
        self._last_beat = 0.0
        self._lives_every = lives_every
        self._lives_at = 0.0
        self._compared = False
        self.lost: BrokerLostData | None = None
        service = database.service
        self._relayed = RELAYED.labels(service)
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
                    if self.lost is not None:
                        self._acked = [], [], {}  # by a bus that may have lost it since: it is sent again
                    self._shards.doubt()  # the refill that ends a loss ends the epochs, too
                    self._compared = False  # a bus that was out may come back with less
                    logger.bind(service=self._database.service, error=str(out)).warning("relay.paused")
                    await self._drop_producer()
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, _PAUSE_LIMIT)
        finally:
            self._database.signals.unsubscribe(OUTBOX, woken)
            await self._drop_producer()
            if self._acked[0]:
                with contextlib.suppress(Unavailable):
                    await self._database.run((), self._forget, self._acked)

    def _note_lost(self, lost: BrokerLostData | None) -> None:
        self.lost = lost
        self._lost_gauge.set(0 if lost is None else 1)

    async def _turn(self) -> bool:
        """Send one batch; the answer says whether there may be more to send, or to forget."""
        await self._shards.keep()
        if not self._shards.owned:
            return False
        ours, rows, at = await self._database.run((), self._advance, self._acked)
        if self._acked[0]:
            self._acked = [], [], {}
            failpoint("relay.forgotten")
        if not ours:
            self._shards.doubt()
        if self._shards.overdue:
            return True  # the shards may be another relay's by now: ask for them again before anything is sent
        failpoint("relay.read")
        await self._check_lives()
        if rows:
            await self._send(rows)
        if len(rows) < self._batch:
            await self._beat(at)
        return bool(rows)

    async def _advance(self, tx: Transaction, acked: Acked) -> tuple[bool, list[asyncpg.Record], datetime | None]:
        """Forget what was acknowledged, and read the next rows; with whether the shards were still ours."""
        ours = await self._forget(tx, acked)
        # the time is taken first: whatever was committed before it is seen by the read that follows
        # and while an event of the one-shard topic is refused, that would not be true
        at = None if self._heartbeat is None else await tx.fetchval(_ALL_SENT_AT, _ONE_SHARD)
        return ours, await tx.fetch(_READ, list(self._shards.owned), self._batch, self._database.service), at

    async def _forget(self, tx: Transaction, acked: Acked) -> bool:
        """Take acknowledged rows out of the pending ones, and remember where they lie; False if some stayed.

        Under the epochs of then: what a refill has put back since is to be sent again, though the shards are ours anew.
        """
        ids, acks, epochs = acked
        if not ids:
            return True
        # what a crash of the server takes back of this is sent again, and settled as a duplicate
        await tx.execute("set local synchronous_commit = off")
        tag = await tx.execute(_DELETE, ids, list(epochs), list(epochs.values()), self._shards.owner)
        if tag != "DELETE 0":
            await self._memory.remember(tx, acks)
        return tag == f"DELETE {len(ids)}"

    async def _send(self, rows: Sequence[asyncpg.Record]) -> None:
        producer = await self._open_producer()
        await self._memory.learn(dict.fromkeys(row["topic"] for row in rows))
        try:
            async with asyncio.timeout(self._shards.left):  # what is late would come after a later owner's events
                acks = await producer.send([_record(row) for row in rows])
        except TimeoutError as late:
            raise SendFailed("the lease of the shards was over before all was acknowledged") from late
        except SendFailed as failed:
            self._note_acked(rows, failed.acked)
            if not failed.retryable and len(failed.acked) < len(rows):
                await self._refuse(rows[len(failed.acked)], failed)
            raise
        failpoint("relay.sent")
        self._note_acked(rows, acks)

    def _note_acked(self, rows: Sequence[asyncpg.Record], acks: Sequence[Ack]) -> None:
        """The first rows were acknowledged: the next turn forgets them."""
        if acks:
            self._acked = [row["id"] for row in rows[: len(acks)]], acks, self._shards.owned
            self._relayed.inc(len(acks))
            self._latency.observe(max(0.0, rows[0]["age"]))

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

    async def _check_lives(self) -> None:
        """After a start and after a failure all is compared, though nothing is to be sent; else the lives alone."""
        if self.lost is not None or not self._compared:
            await self._memory.check()
            self._compared = True
        elif time.monotonic() >= self._lives_at:
            await self._memory.check_lives()
            self._lives_at = time.monotonic() + self._lives_every

    async def _open_producer(self) -> Producer:
        """The producer; `_check_lives` has seen that the bus still has what it acknowledged to the last one."""
        if self._producer is None:
            producer = self._bus.producer()
            await producer.start()
            self._producer = producer
        return self._producer

    async def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()


def _record(row: asyncpg.Record) -> Record:
    _, topic, key, data, _, *attributes = row
    return Record(topic=topic, key=key, headers=Envelope(*attributes).headers(), value=data)
