"""The relay alone: how soon an event leaves after its commit, and how fast a backlog drains."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import asyncpg

from benchmarks.harness import Result, at_least, at_most, in_turn, percentile
from benchmarks.hop_raw import raw_relay
from benchmarks.hop_system import Transport, postgres_transport
from kgl_contracts.ingest import DocumentDeleted
from kgl_contracts.topics import GRAPH
from kgl_servicekit.bus.port import Ack, Bus, Producer, Record
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.relay import Relay
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.counter import MIGRATIONS
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import PostgresForTests, Roles, temporary_postgres

BACKLOG = 100_000
RATE, SECONDS, AT_ONCE = 1_000, 10, 5

_BACKLOG = f"""
with logged as (
    insert into outbox_log (event_id, topic, key, type, sequence, epoch, occurred_at, workspace_id, operation_id,
                            causation_id, actor, traceparent, data)
    select gen_random_uuid(), '{GRAPH.name}', md5((n % 2000)::text), 'graph.document.indexed.v1', n / 2000 + 1, 1,
           now(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'user:0198f3a0-0000-7000-8000-000000000011',
           '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
           convert_to('{{"document_id":"0198f3a0-0000-7000-8000-000000000001","version":1,"chunk_count":1}}', 'UTF8')
    from generate_series(0, {BACKLOG - 1}) n
    returning id, logged_at
)
insert into outbox_pending (id, shard, logged_at) select id, id % 16, logged_at from logged
"""


async def measure() -> list[Result]:
    """Latency at 1,000 events/s, and the drain of 100,000 events against claim-and-send by hand."""
    with temporary_postgres() as url:
        postgres = PostgresForTests(url)
        delays = await _delays(postgres)
        pair = await in_turn(lambda: _drained(postgres, _ours), lambda: _drained(postgres, _raw))
    return [
        at_most("relay, commit to acknowledged, p50 at 1,000 events/s", "ms", percentile(delays, 0.5) * 1000, 5),
        at_most("relay, commit to acknowledged, p99 at 1,000 events/s", "ms", percentile(delays, 0.99) * 1000, 20),
        at_least(f"relay, backlog of {BACKLOG:,}, postgres", "events/s", pair, 0.9),
    ]


class _Watched:
    """A producer that notes when each event was acknowledged."""

    def __init__(self, inner: Producer, acked: dict[str, float]) -> None:
        self._inner = inner
        self._acked = acked

    async def start(self) -> None:
        await self._inner.start()

    async def stop(self) -> None:
        await self._inner.stop()

    async def send(self, records: Sequence[Record]) -> list[Ack]:
        acks = await self._inner.send(records)
        now = time.perf_counter()
        for record in records:
            self._acked[record.key] = now
        return acks


async def _delays(postgres: PostgresForTests) -> list[float]:
    """Seconds from the commit of each event to its acknowledgement, at a steady rate."""
    committed: dict[str, float] = {}
    acked: dict[str, float] = {}

    async def tell(tx: Transaction, documents: list[UUID]) -> None:
        for document in documents:
            await tx.emit(DocumentDeleted(document_id=document, version=1))

    async with postgres.database(MIGRATIONS) as roles, postgres_transport(postgres) as transport:
        bus = transport.ours
        plain = bus.producer
        bus.producer = lambda: _Watched(plain(), acked)  # type: ignore[method-assign]
        database = Database(roles.service, service="ingest")
        await database.start()
        relaying = asyncio.ensure_future(Relay(database, bus, worker="bench").run())
        start = time.perf_counter()
        for number in range(RATE * SECONDS // AT_ONCE):
            await asyncio.sleep(max(0.0, start + number * AT_ONCE / RATE - time.perf_counter()))
            documents = [uuid7() for _ in range(AT_ONCE)]
            await database.run(uuid7(), tell, documents)
            committed |= dict.fromkeys(map(str, documents), time.perf_counter())
        await eventually(lambda: _equal(acked, committed), within=60)
        relaying.cancel()
        await asyncio.gather(relaying, return_exceptions=True)
        await database.stop()
    return [max(0.0, acked[key] - at) for key, at in committed.items()]


async def _equal(some: dict[str, float], others: dict[str, float]) -> bool:
    return len(some) == len(others)


async def _drained(postgres: PostgresForTests, relay: Callable[[Roles, Transport], Awaitable[None]]) -> float:
    """Events per second from the backlog to the bus."""
    async with postgres.database(MIGRATIONS) as roles, postgres_transport(postgres) as transport:
        server = await asyncpg.connect(roles.superuser)
        await server.execute(_BACKLOG)
        await server.execute("analyze outbox_log; analyze outbox_pending; checkpoint")
        start = time.perf_counter()
        working = asyncio.ensure_future(relay(roles, transport))
        await eventually(lambda: server.fetchval("select not exists (select from outbox_pending)"), within=120)
        elapsed = time.perf_counter() - start
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await server.close()
        assert sum((await transport.ours.end_offsets(GRAPH.name)).values()) == BACKLOG
        return BACKLOG / elapsed


async def _ours(roles: Roles, transport: Transport) -> None:
    bus: Bus = transport.ours
    database = Database(roles.service, service="graph")
    await database.start()
    try:
        await Relay(database, bus, worker="bench").run()
    finally:
        await database.stop()


async def _raw(roles: Roles, transport: Transport) -> None:
    connection = await asyncpg.connect(roles.service)
    await transport.raw.start()
    try:
        await raw_relay(connection, transport.raw)
    finally:
        await transport.raw.stop()
        await connection.close()
