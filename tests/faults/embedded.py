"""The system on one machine without containers: Postgres from the wheel, the bus in another one, processes of ours."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import orjson

from kgl_contracts.topics import Topic
from kgl_servicekit.bus import postgres_schema as sql
from kgl_servicekit.bus.port import Bus
from kgl_servicekit.bus.postgres import PostgresBus, migrate_bus
from kgl_servicekit.testing.counter import MIGRATIONS
from kgl_servicekit.testing.postgres import PostgresForTests, Roles
from tests.faults import tables
from tests.faults.downstream import Downstream
from tests.faults.hosted import HostedEvents
from tests.faults.postgres import PostgresServer
from tests.faults.processes import Nursery, nursery
from tests.faults.proxy import Proxy
from tests.faults.small_server import serving
from tests.faults.system import RawRecord

LOGS = Path("build/faults")
LEASE = 3.0
_FORGET = "truncate log_topic, log_partition, log_record, log_group, log_member"
_PARTITION = "select partitions from log_topic where topic = $1"


class EmbeddedEvents(HostedEvents):
    """The small service on two servers of this machine; the bus is a database of the second."""

    logs = LOGS
    takeover = LEASE

    def __init__(
        self,
        nursery: Nursery,
        environment: Mapping[str, str],
        dsn: str,
        bus: Roles,
        servers: tuple[PostgresServer, PostgresServer],
    ) -> None:
        super().__init__(nursery, environment, dsn, *servers)
        self._bus_dsn, self._bus_superuser = bus.service, bus.superuser
        self._bus: PostgresBus | None = None

    async def bus(self) -> Bus:
        if self._bus is None:
            self._bus = PostgresBus(self._bus_dsn, worker="faults")
            await self._bus.start()
        return self._bus

    async def inject(self, topic: str, records: Sequence[RawRecord]) -> None:
        bus = PostgresBus(self._bus_dsn)
        await bus.start()
        try:
            async with bus.connection() as connection:
                partitions = await connection.fetchval(_PARTITION, topic)
                await connection.fetch(
                    sql.SEND,
                    [topic] * len(records),
                    [index % partitions for index in range(len(records))],
                    [record.key for record in records],
                    [_headers(record.headers) for record in records],
                    [record.value or b"" for record in records],
                )
            bus.signals.notify(sql.channel(topic))
        finally:
            await bus.stop()

    async def forget_bus(self) -> None:
        bus = await self.bus()
        connection = await asyncpg.connect(self._bus_superuser)
        try:
            rows = await connection.fetch("select topic, partitions, compacted from log_topic")
            await connection.execute(_FORGET)
        finally:
            await connection.close()
        # whoever sets a bus up makes the topics anew
        await bus.declare([Topic(row[0], partitions=row[1], compacted=row[2]) for row in rows])

    async def close(self) -> None:
        await super().close()
        if self._bus is not None:
            await self._bus.stop()


def _headers(headers: Mapping[str, bytes]) -> bytes:
    """This transport keeps text: what is no UTF-8 cannot be on it."""
    return orjson.dumps({name: value.decode("utf-8", "replace") for name, value in headers.items()})


class EmbeddedSystem:
    """Two servers for the whole run; databases are made anew for each class."""

    name = "embedded"
    logs = LOGS

    def __init__(self, nursery: Nursery, database: PostgresServer, bus: PostgresServer) -> None:
        self.nursery = nursery
        self.database, self.bus_server = database, bus
        self.databases, self.buses = PostgresForTests(database.url), PostgresForTests(bus.url)

    @asynccontextmanager
    async def events(
        self, *, settings: Mapping[str, str], through_proxy: bool = False
    ) -> AsyncIterator[EmbeddedEvents]:
        async with AsyncExitStack() as stack:
            roles = await stack.enter_async_context(self.databases.database(MIGRATIONS))
            bus = await stack.enter_async_context(self.buses.database())
            outside = await stack.enter_async_context(serving(Downstream()))
            await _prepare(roles, bus)
            link: Proxy | None = None
            url = roles.service
            if through_proxy:
                link = Proxy(("127.0.0.1", self.database.port))
                await link.start()
                stack.push_async_callback(link.stop)
                url = _at_port(url, link.port)
            environment = {
                "KGL_ENV": "test",
                "KGL_DATABASE_URL": url,
                "KGL_BUS_URL": bus.service,
                "KGL_BUS_LEASE": str(LEASE),
                "KGL_DOWNSTREAM": outside.url,
                "KGL_RATE_LIMIT_PER_MINUTE": "100000000",
                "KGL_LOG_LEVEL": "WARNING",
                **settings,
            }
            made = EmbeddedEvents(self.nursery, environment, roles.superuser, bus, (self.database, self.bus_server))
            made.database_link, made.downstream = link, outside
            stack.push_async_callback(made.close)
            await made.start()
            yield made


def _at_port(url: str, port: int) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}"))


async def _prepare(roles: Roles, bus: Roles) -> None:
    await migrate_bus(bus.owner, bus.service.partition("//")[2].partition("@")[0])
    owner = await asyncpg.connect(roles.owner)
    try:
        await owner.execute(tables.TABLES)
    finally:
        await owner.close()


@asynccontextmanager
async def embedded() -> AsyncIterator[EmbeddedSystem]:
    """The system of a run; all is removed in the end."""
    database, bus = PostgresServer(), PostgresServer()
    try:
        async with nursery() as forking:
            await database.open()
            await bus.open()
            yield EmbeddedSystem(forking, database, bus)
    finally:
        await database.close()
        await bus.close()
