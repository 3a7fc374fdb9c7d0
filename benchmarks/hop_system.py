"""What the hop runs on: one Postgres, a service database and a bus, made anew for each measurement."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg

from benchmarks.hop_raw import raw_hop
from benchmarks.hop_raw_bus import RawBus, RawKafka, RawPostgres
from kgl_contracts.envelope import Envelope
from kgl_contracts.graph import DocumentIndexed
from kgl_contracts.ingest import DocumentDeleted
from kgl_contracts.topics import DOCUMENTS, GRAPH, OPERATIONS
from kgl_servicekit.bus.kafka_connection import KafkaConnection
from kgl_servicekit.bus.port import Bus, Record
from kgl_servicekit.bus.postgres import PostgresBus, migrate_bus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.relay import Relay
from kgl_servicekit.events.subscription import DONE, Event, Subscription, Verdict
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.counter import MIGRATIONS
from kgl_servicekit.testing.kafka import MockKafkaBus, mock_cluster
from kgl_servicekit.testing.kafka_server import KafkaServerBus, server_connection
from kgl_servicekit.testing.postgres import PostgresForTests, Roles, temporary_postgres
from kgl_servicekit.testing.servers import Servers

TOPICS = (DOCUMENTS, GRAPH, OPERATIONS)
EFFECT = "insert into effect select * from unnest($1::uuid[], $2::uuid[], $3::int[])"
_TABLE = """
create table effect (workspace_id uuid not null, document_id uuid not null, version int not null,
                     primary key (workspace_id, document_id, version));
alter table effect enable row level security;
create policy workspaces on effect using (workspace_id = any (
    (select string_to_array(nullif(current_setting('kgl.workspaces', true), ''), ',')::uuid[])::uuid[]));
"""


@dataclass(frozen=True, slots=True)
class Hopped:
    """Events per second, and microseconds of this process' CPU for each."""

    rate: float
    cpu: float


Hop = Callable[[int, int, int], Awaitable[Hopped]]


@dataclass(frozen=True, slots=True)
class Transport:
    """A bus made anew: ours, and the same one as a loop written by hand uses it."""

    ours: Bus
    raw: RawBus


@dataclass(frozen=True, slots=True)
class HopSystem:
    """One transport to measure on."""

    transport: str
    postgres: PostgresForTests
    opened: Callable[[PostgresForTests], AbstractAsyncContextManager[Transport]]

    async def ours(self, events: int, keys: int, workspaces: int) -> Hopped:
        """Through the runtime of the services."""
        return await self._measured(lambda roles, bus: our_hop(roles, bus.ours), events, keys, workspaces)

    async def raw(self, events: int, keys: int, workspaces: int) -> Hopped:
        """Through the loop written by hand."""
        return await self._measured(lambda roles, bus: raw_hop(roles, bus.raw), events, keys, workspaces)

    async def _measured(
        self, hop: Callable[[Roles, Transport], Awaitable[None]], events: int, keys: int, workspaces: int
    ) -> Hopped:
        async with self.postgres.database(MIGRATIONS) as roles, self.opened(self.postgres) as transport:
            bus = transport.ours
            await _prepare(roles)
            await _fill(bus, events, keys, [uuid7() for _ in range(workspaces)])
            work = asyncio.ensure_future(hop(roles, transport))
            start, spent = time.perf_counter(), time.process_time()
            try:
                while sum((await bus.end_offsets(GRAPH.name)).values()) < events:
                    if work.done():
                        await work
                    await asyncio.sleep(0.02)
                elapsed, spent = time.perf_counter() - start, time.process_time() - spent
            finally:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
            await _check(roles, bus, events, keys)
            return Hopped(events / elapsed, spent / events * 1e6)


@asynccontextmanager
async def hop_systems() -> AsyncIterator[list[HopSystem]]:
    """The transports that can be measured here."""
    with temporary_postgres() as url:
        postgres = PostgresForTests(url)
        yield [HopSystem("postgres", postgres, postgres_transport), HopSystem("kafka (mock)", postgres, _kafka)]


@asynccontextmanager
async def postgres_transport(postgres: PostgresForTests) -> AsyncIterator[Transport]:
    """The log in a database of its own."""
    async with postgres.database() as roles:
        await migrate_bus(roles.owner, roles.service.partition("//")[2].partition("@")[0])
        bus = PostgresBus(roles.service)
        await bus.start()
        await bus.declare(TOPICS)
        try:
            yield Transport(bus, RawPostgres(roles.service))
        finally:
            await bus.stop()


@asynccontextmanager
async def _kafka(_: PostgresForTests) -> AsyncIterator[Transport]:
    """librdkafka's mock cluster, in this process."""
    with mock_cluster(TOPICS) as cluster:
        bus = MockKafkaBus(cluster, session=10, limit=15)
        await bus.start()
        try:
            yield Transport(bus, RawKafka(KafkaConnection(bootstrap=cluster.bootstrap)))
        finally:
            await bus.stop()


@asynccontextmanager
async def kafka_server(servers: Servers) -> AsyncIterator[HopSystem]:
    """A real broker, with a Postgres of this process beside it."""

    @asynccontextmanager
    async def opened(_: PostgresForTests) -> AsyncIterator[Transport]:
        prefix = f"bench-{uuid4().hex}."
        bus = KafkaServerBus(server_connection(servers), prefix=prefix, session=10, held=0.5)
        await bus.start()
        try:
            await bus.declare(TOPICS)
            yield Transport(bus, RawKafka(bus.connection, prefix))
            await bus.forget()
        finally:
            await bus.stop()

    with temporary_postgres() as url:
        yield HopSystem("kafka", PostgresForTests(url), opened)


async def _prepare(roles: Roles) -> None:
    owner = await asyncpg.connect(roles.owner)
    await owner.execute(_TABLE)
    await owner.close()
    server = await asyncpg.connect(roles.superuser)
    await server.execute("checkpoint")
    await server.close()


async def _fill(bus: Bus, events: int, keys: int, workspaces: Sequence[UUID]) -> None:
    documents = [uuid7() for _ in range(keys)]
    producer = bus.producer()
    await producer.start()
    for first in range(0, events, 1000):
        await producer.send([_record(n, documents, workspaces) for n in range(first, min(first + 1000, events))])
    await producer.stop()


def _record(number: int, documents: Sequence[UUID], workspaces: Sequence[UUID]) -> Record:
    document, sequence = documents[number % len(documents)], number // len(documents) + 1
    event = DocumentDeleted(document_id=document, version=sequence)
    envelope = Envelope(
        id=uuid7(),
        type=event.event_type,
        source="ingest",
        time=datetime.now(UTC),
        workspace_id=workspaces[number % len(documents) % len(workspaces)],
        operation_id=uuid7(),
        causation_id=uuid7(),
        actor_id="user:0198f3a0-0000-7000-8000-000000000011",
        sequence=sequence,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    return Record(
        topic=DOCUMENTS.name, key=event.key, headers=envelope.headers(), value=event.model_dump_json().encode()
    )


async def our_hop(roles: Roles, bus: Bus) -> None:
    """Consume and relay until cancelled."""
    subscription = Subscription("bench.documents", topic=DOCUMENTS, batch=500)

    @subscription.on_batch(DocumentDeleted, stage="bench.hop")
    async def hop(tx: Transaction, events: Sequence[Event[DocumentDeleted]]) -> Sequence[Verdict]:
        await tx.execute(
            EFFECT,
            [event.envelope.workspace_id for event in events],
            [event.data.document_id for event in events],
            [event.data.version for event in events],
        )
        for event in events:
            under = tx.under(event)
            data = event.data
            await under.emit(DocumentIndexed(document_id=data.document_id, version=data.version, chunk_count=1))
            await under.report("bench.hop", "done")
        return [DONE] * len(events)

    database = Database(roles.service, service="graph")
    await database.start()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(SubscriptionRunner(database, bus, subscription).run())
            group.create_task(Relay(database, bus, worker="bench").run())
    finally:
        await database.stop()


async def _check(roles: Roles, bus: Bus, events: int, keys: int) -> None:
    """What was measured was right: each event one effect, each effect one event, sequences without a hole."""
    connection = await asyncpg.connect(roles.superuser)
    try:
        assert await connection.fetchval("select count(*) from effect") == events
        rows = await connection.fetch("select key, last from outbox_key where topic = $1", GRAPH.name)
        assert len(rows) == keys and sum(row["last"] for row in rows) == events
    finally:
        await connection.close()
    assert sum((await bus.end_offsets(GRAPH.name)).values()) == events
