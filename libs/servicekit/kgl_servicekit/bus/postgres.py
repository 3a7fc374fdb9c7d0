"""The postgres transport: a partitioned log with consumer groups, for one machine.

Offsets become visible in order, a poll is one statement, wake-ups come by LISTEN. Nothing is trimmed
before its slowest group; of a compacted topic the last record of each key is kept.
"""

import asyncio
import itertools
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
import orjson
from loguru import logger

from kgl_contracts.topics import Topic
from kgl_servicekit.bus import postgres_schema as sql
from kgl_servicekit.bus.port import Ack, OnAssigned, Record, SendFailed, TopicMissing
from kgl_servicekit.bus.postgres_group import PostgresConsumer
from kgl_servicekit.database.connection import LOST, Connection
from kgl_servicekit.database.signals import Signals
from kgl_servicekit.errors import Unavailable

_RETENTION = 7 * 86400.0
_ABANDONED = 86400.0  # seconds since the last commit
# a key with a NUL or too long for its index, as against what an operator or time can mend
_REFUSED_FOR_GOOD = (asyncpg.DataError, asyncpg.ProgramLimitExceededError)


async def migrate_bus(owner_url: str, service_role: str) -> None:
    """Create the tables of the log, and let the service role use them."""
    connection: Connection = await asyncpg.connect(owner_url)
    try:
        async with connection.transaction():
            await connection.execute("select pg_advisory_xact_lock(hashtext('kgl_log'))")
            await connection.execute(sql.SCHEMA)
            await connection.execute(
                f'grant select, insert, update, delete on all tables in schema public to "{service_role}"'
            )
    finally:
        await connection.close()


class PostgresBus:
    """The bus of one process; `lease` seconds after a member's last word its partitions go to others.

    `worker` is a name that no two processes share: what an earlier process of this name held is free at once.
    """

    def __init__(self, dsn: str, *, worker: str | None = None, pool_size: int = 4, lease: float = 10.0) -> None:
        self._dsn = dsn
        self._pool_size = pool_size
        self._worker = worker or str(uuid4())
        self._pool: asyncpg.Pool | None = None
        self._users = 0
        self._opening = asyncio.Lock()
        self._topics: dict[str, int] = {}
        self.lease = lease
        self.signals = Signals(dsn)

    async def start(self) -> None:
        """Open the pool; each role of a process calls it once."""
        async with self._opening:
            if self._users == 0:
                async with _unavailable():
                    self._pool = await asyncpg.create_pool(
                        self._dsn, min_size=1, max_size=self._pool_size, command_timeout=30
                    )
                await self._free_predecessor()
                await self.signals.start()
            self._users += 1

    def member_name(self) -> str:
        """A name for a member of a group that tells whose it is."""
        return f"{self._worker}/{uuid4()}"

    async def _free_predecessor(self) -> None:
        async with self.connection() as connection:
            if await connection.fetchval("select to_regclass('log_member')") is None:
                return
            for statement in sql.FREE_PREDECESSOR:
                await connection.execute(statement, f"{self._worker}/")

    async def stop(self) -> None:
        self._users -= 1
        if self._users > 0 or self._pool is None:
            return
        await self.signals.stop()
        try:
            async with asyncio.timeout(5):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()
        self._pool = None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection; outages are Unavailable."""
        if self._pool is None:
            raise Unavailable("The bus is not open.", retry_after=1)
        async with _unavailable(), self._pool.acquire(timeout=10) as connection:
            yield connection

    async def ping(self) -> None:
        async with self.connection() as connection:
            await connection.fetchval("select 1", timeout=2)

    async def declare(self, topics: Sequence[Topic]) -> None:
        """Make what is missing; the number of partitions of a topic never changes."""
        async with self.connection() as connection, connection.transaction():
            await connection.execute("select pg_advisory_xact_lock(hashtext('kgl_log'))")
            for topic in topics:
                partitions = await connection.fetchval(sql.DECLARE_TOPIC, topic.name, topic.partitions, topic.compacted)
                if partitions != topic.partitions:
                    raise ValueError(f"{topic.name} has {partitions} partitions for life, not {topic.partitions}")
                await connection.execute(sql.BEGIN_EMPTY, topic.name)
                await connection.execute(sql.DECLARE_PARTITIONS, topic.name, topic.partitions)
                self._topics[topic.name] = partitions

    async def partitions(self, topic: str) -> int:
        """How many partitions a declared topic has."""
        if topic not in self._topics:
            async with self.connection() as connection:
                found = await connection.fetchval("select partitions from log_topic where topic = $1", topic)
            if found is None:
                raise TopicMissing(topic=topic, retry_after=1)
            self._topics[topic] = found
        return self._topics[topic]

    def producer(self) -> "PostgresProducer":
        return PostgresProducer(self)

    def consumer(self, topic: str, group: str, on_assigned: OnAssigned) -> PostgresConsumer:
        return PostgresConsumer(self, topic, group, on_assigned)

    async def incarnation(self, topic: str) -> str:
        async with self.connection() as connection:
            found = await connection.fetchval("select incarnation from log_topic where topic = $1", topic)
        if found is None:
            raise TopicMissing(topic=topic, retry_after=1)
        return str(found)

    async def begin_offsets(self, topic: str) -> dict[int, int]:
        return {row["partition"]: row["first"] for row in await self._ends(topic)}

    async def end_offsets(self, topic: str) -> dict[int, int]:
        return {row["partition"]: row["next"] for row in await self._ends(topic)}

    async def _ends(self, topic: str) -> list[asyncpg.Record]:
        async with self.connection() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(sql.ENDS, topic)
        if not rows:
            raise TopicMissing(topic=topic, retry_after=1)
        return rows

    async def forget_group(self, topic: str, group: str) -> None:
        async with self.connection() as connection, connection.transaction():
            for statement in sql.FORGET_GROUP:
                await connection.execute(statement, topic, group)

    async def forget_abandoned(self, older_than: float) -> None:
        """Forget the groups of single readings that have had no member, and no commit for so many seconds."""
        async with self.connection() as connection:
            rows = await connection.fetch(sql.ABANDONED, older_than)
        for row in rows:
            logger.bind(topic=row["topic"], group=row["grp"]).info("bus.group_abandoned")
            await self.forget_group(row["topic"], row["grp"])

    async def compact(self) -> None:
        """Of compacted topics, keep the last record of each key."""
        async with self.connection() as connection:
            await connection.execute(sql.COMPACT)

    async def trim(self, older_than: float) -> None:
        """Delete records older than so many seconds that every group of their topic has read."""
        async with self.connection() as connection:
            await connection.execute(sql.TRIM, older_than)

    async def maintain(self, every: float = 60.0) -> None:
        """Forget, compact and trim from time to time, until cancelled."""
        while True:
            await asyncio.sleep(every)
            try:
                await self.forget_abandoned(_ABANDONED)
                await self.compact()
                await self.trim(_RETENTION)
            except Unavailable as out:
                logger.bind(error=str(out)).warning("bus.maintenance_postponed")


class PostgresProducer:
    """Sends a batch in one transaction, all of it or nothing; in parts, where one record is refused."""

    def __init__(self, bus: PostgresBus) -> None:
        self._bus = bus

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def send(self, records: Sequence[Record]) -> list[Ack]:
        if not records:
            return []
        try:
            return await self._send(records)
        except _REFUSED_FOR_GOOD as refused:
            if len(records) == 1:
                raise SendFailed(f"Postgres refuses this: {refused!r}", retryable=False) from refused
        except (Unavailable, asyncpg.PostgresError) as out:
            raise SendFailed(str(out)) from out
        return await self._send_in_halves(records)

    async def _send_in_halves(self, records: Sequence[Record]) -> list[Ack]:
        """Find the record for which the batch was refused, and send what is before it."""
        middle = len(records) // 2
        acks = await self.send(records[:middle])
        try:
            return acks + await self.send(records[middle:])
        except SendFailed as failed:
            raise SendFailed(str(failed), [*acks, *failed.acked], retryable=failed.retryable) from failed

    async def _send(self, records: Sequence[Record]) -> list[Ack]:
        counts = {topic: await self._bus.partitions(topic) for topic in {record.topic for record in records}}
        partitions = [zlib.crc32(record.key.encode()) % counts[record.topic] for record in records]
        async with self._bus.connection() as connection:
            rows = await connection.fetch(
                sql.SEND,
                [record.topic for record in records],
                partitions,
                [record.key for record in records],
                [orjson.dumps(record.headers) for record in records],
                [record.value for record in records],
            )
        following = {(row["topic"], row["partition"]): itertools.count(row["next"]) for row in rows}
        for topic in counts:
            self._bus.signals.notify(sql.channel(topic))
        try:
            return [
                Ack(record.topic, partition, next(following[record.topic, partition]))
                for record, partition in zip(records, partitions, strict=True)
            ]
        except KeyError as missing:
            raise SendFailed("A topic of these is not there any more.") from missing


@asynccontextmanager
async def _unavailable() -> AsyncIterator[None]:
    try:
        yield
    except LOST as lost:
        raise Unavailable(f"The bus cannot be reached: {type(lost).__name__}.", retry_after=1) from lost
    except asyncpg.DeadlockDetectedError as deadlock:
        raise Unavailable("The bus let others go first; try again.", retry_after=1) from deadlock
