"""The small service as processes of this machine, on the Postgres and the Kafka of the compose system."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from kgl_servicekit.bus.port import Bus
from kgl_servicekit.database.bootstrap import DatabasePlan, create_databases
from kgl_servicekit.database.migrations import branches_of, migrate
from kgl_servicekit.testing.counter import MIGRATIONS
from kgl_servicekit.testing.kafka_server import KafkaServerBus
from kgl_servicekit.testing.servers import real_servers
from tests.faults import tables
from tests.faults.containers import (
    ContainerServer,
    empty_kafka,
    fixed_address,
    only,
    open_port,
    postgres_accepts,
    refill_all,
)
from tests.faults.contract import ITEMS, TAKEN
from tests.faults.downstream import Downstream
from tests.faults.hosted import HostedEvents
from tests.faults.processes import Nursery, nursery
from tests.faults.proxy import Proxy
from tests.faults.small_server import serving
from tests.faults.stack_kafka import OnKafka
from tests.faults.system import RawRecord
from tests.stack.harness import Stack

LOGS = Path("build/faults-stack")
SESSION = 6.0  # seconds; a broker allows no less
_DATABASE = "kgl_faults"
_PARTITIONS = {topic.name: topic.partitions for topic in (ITEMS, TAKEN)}


class StackEvents(HostedEvents):
    """The small service on the servers of the compose system."""

    logs = LOGS
    takeover = SESSION
    largest_record = 900_000  # bytes; a broker refuses more

    def __init__(
        self,
        nursery: Nursery,
        environment: Mapping[str, str],
        dsn: str,
        servers: tuple[ContainerServer, ContainerServer],
        kafka: OnKafka,
        empty: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(nursery, environment, dsn, *servers)
        self._kafka = kafka
        self._empty = empty
        self._bus: KafkaServerBus | None = None

    async def bus(self) -> Bus:
        if self._bus is None:
            self._bus = self._kafka.bus()
            await self._bus.start()
        return self._bus

    async def inject(self, topic: str, records: Sequence[RawRecord]) -> None:
        await self._kafka.inject(topic, records, _PARTITIONS[topic])

    async def forget_bus(self) -> None:
        await self._empty()
        await self._kafka.prepare()

    async def close(self) -> None:
        await super().close()
        if self._bus is not None:
            await self._bus.stop()


class StackSystem:
    """The servers are there for the whole run; database, topics and user are made anew for each class.

    `emptied` is true once the broker has lost what the five services had on it, too.
    """

    name = "stack"
    logs = LOGS

    def __init__(self, nursery: Nursery, stack: Stack, postgres: str) -> None:
        self._nursery = nursery
        self._stack = stack
        self._superuser = postgres
        self._postgres = ContainerServer(stack, "postgres", partial(postgres_accepts, postgres))
        self._kafka = ContainerServer(stack, "kafka", open_port(stack, "kafka", 9092))
        self.emptied = False

    async def _forget(self) -> None:
        self.emptied = True
        await empty_kafka(self._stack)

    @asynccontextmanager
    async def events(self, *, settings: Mapping[str, str], through_proxy: bool = False) -> AsyncIterator[StackEvents]:
        login = real_servers().kafka
        assert login is not None
        async with AsyncExitStack() as opened:
            kafka = OnKafka(login, real_servers().kafka_mechanism)
            url = await self._database()
            opened.push_async_callback(kafka.forget)
            await kafka.prepare()
            outside = await opened.enter_async_context(serving(Downstream()))
            link: Proxy | None = None
            if through_proxy:
                link = Proxy((urlsplit(url).hostname or "", 5432))
                await link.start()
                opened.push_async_callback(link.stop)
                url = _at(url, "127.0.0.1", link.port)
            environment = {
                "KGL_ENV": "test",
                "KGL_DATABASE_URL": url,
                "KGL_BUS_LEASE": str(SESSION),
                "KGL_DOWNSTREAM": outside.url,
                "KGL_RATE_LIMIT_PER_MINUTE": "100000000",
                "KGL_LOG_LEVEL": "WARNING",
                **kafka.environment,
                **settings,
            }
            dsn, servers = _in_database(self._superuser, _DATABASE), (self._postgres, self._kafka)
            made = StackEvents(self._nursery, environment, dsn, servers, kafka, self._forget)
            made.database_link, made.downstream = link, outside
            opened.push_async_callback(made.close)
            await made.start()
            yield made

    async def _database(self) -> str:
        """A fresh one; the answer is the URL of the service's role."""
        connection = await asyncpg.connect(self._superuser)
        try:
            await connection.execute(f'drop database if exists "{_DATABASE}" with (force)')
        finally:
            await connection.close()
        owner, service = "owner-of-the-faults", "service-of-the-faults"
        plan = DatabasePlan(name=_DATABASE, owner_password=owner, service_password=service)
        await create_databases(self._superuser, [plan])
        owner_url = _in_database(_as(self._superuser, f"{_DATABASE}_owner", owner), _DATABASE)
        await migrate(MIGRATIONS, owner_url, branches_of(MIGRATIONS))
        connection = await asyncpg.connect(owner_url)
        try:
            await connection.execute(tables.TABLES)
        finally:
            await connection.close()
        return _in_database(_as(self._superuser, _DATABASE, service), _DATABASE)


def _as(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{parts.hostname}:{parts.port}"))


def _at(url: str, host: str, port: int) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@{host}:{port}"))


def _in_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@asynccontextmanager
async def on_stack(stack: Stack) -> AsyncIterator[StackSystem]:
    """The system of a run. The processes of the five services stand still meanwhile, and can go on after it."""
    servers = real_servers()
    assert servers.postgres is not None
    async with nursery() as forking, fixed_address(stack, "postgres") as address:
        system = StackSystem(forking, stack, _at(servers.postgres.url, address, 5432))
        async with only(stack, "postgres", "kafka"):
            yield system
        if system.emptied:
            await refill_all(stack)
