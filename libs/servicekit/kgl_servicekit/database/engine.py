"""The database of one service: its pool, and `run`, the edge of every transaction."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar
from uuid import UUID

import asyncpg
import orjson
from loguru import logger

from kgl_servicekit.database.cause import Cause
from kgl_servicekit.database.connection import LOST, Connection, told_lost
from kgl_servicekit.database.pool import PATIENCE, Pool
from kgl_servicekit.database.signals import Signals
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.failpoints import failpoint
from kgl_servicekit.ids import uuid7
from kgl_servicekit.metrics import TRANSACTION_RETRIES
from kgl_servicekit.settings import NotConfigured

R = TypeVar("R")
C = TypeVar("C")
UseCase = Callable[[Transaction, C], Awaitable[R]]

TRIES = 3
_ROLLBACK_SECONDS = 5.0
_PING = 1.0
_NOTICED = 1.0  # seconds after which whoever asked something has heard that the connection is lost

_REFUSED = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)
_REPEATABLE = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


class OutcomeUnknown(Unavailable, code="outcome_unknown", status=503):
    """The connection was lost while committing; repeat the request with the same Idempotency-Key."""


class DatabaseUnavailable(Unavailable, code="database_unavailable", status=503):
    """The database cannot be reached at the moment; try again after Retry-After."""


class UseCaseHangs(Exception):
    """A use case asked nothing of its transaction for so long that the server ended it, and went on all the same."""


class KeepsConflicting(Unavailable, code="keeps_conflicting", status=503):
    """Others changed the same at each of several tries, and went first; try again after Retry-After."""


async def _prepare(connection: Connection) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(
            name,
            encoder=lambda value: orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode(),
            decoder=orjson.loads,
            schema="pg_catalog",
        )


class Database:
    """A pool of connections under the service's role, and the one way to run a transaction on it."""

    def __init__(self, dsn: str, *, service: str, pool_size: int = 8) -> None:
        self._dsn = dsn
        self._service = service
        self._pool_size = pool_size
        self._pool: Pool | None = None
        self._users = 0
        self._opening = asyncio.Lock()
        self.signals = Signals(dsn)

    @property
    def service(self) -> str:
        return self._service

    async def start(self) -> None:
        """Open the pool; may be called once by each of the service's roles in a process.

        Raises NotConfigured for a role, a password or a database that the server does not know, and without a server.
        """
        async with self._opening:
            if self._users == 0:
                pool = Pool(self._connect, self._pool_size)
                try:
                    pool.release(await pool.acquire())  # so that a database that is out ends the start
                except _REFUSED as refused:
                    raise NotConfigured(f"KGL_DATABASE_URL is refused: {refused}") from refused
                except LOST as lost:
                    raise NotConfigured(told_lost("KGL_DATABASE_URL", lost)) from lost
                self._pool = pool
                await self.signals.start()
            self._users += 1

    async def stop(self) -> None:
        self._users -= 1
        if self._users > 0 or self._pool is None:
            return
        await self.signals.stop()
        await self._pool.close()
        self._pool = None

    async def ping(self) -> None:
        """Answer within 1 s, or raise DatabaseUnavailable; for health checks."""
        pool = self._open_pool()
        try:
            async with asyncio.timeout(_PING):
                connection = await pool.acquire()
                try:
                    await connection.fetchval("select 1")
                except BaseException:
                    connection.terminate()
                    raise
                finally:
                    pool.release(connection)
        except LOST as lost:
            raise DatabaseUnavailable(retry_after=2) from lost

    async def run(
        self,
        workspaces: UUID | Iterable[UUID],
        use_case: Callable[[Transaction, C], Awaitable[R]],
        command: C,
        *,
        cause: Cause | None = None,
        reporter: str | None = None,
    ) -> R:
        """Run a use case in one transaction, and commit it.

        Tried up to 3 times on a deadlock, a serialization failure, or a connection lost before COMMIT; so a
        use case does nothing that a transaction cannot take back. Raises OutcomeUnknown when the connection
        is lost during COMMIT, DatabaseUnavailable when there is none, KeepsConflicting when each try met others
        in a deadlock or a serialization failure, UseCaseHangs when the server ended the transaction for its idleness
        and the use case went on, and whatever the use case raises.
        """
        scope = (workspaces,) if isinstance(workspaces, UUID) else tuple(workspaces)
        cause = cause or Cause(id=uuid7(), kind="request", actor=f"service:{self._service}")
        for attempt in range(1, TRIES + 1):
            try:
                return await self._once(scope, use_case, command, cause, reporter)
            except _REPEATABLE as conflict:
                if attempt == TRIES:
                    raise KeepsConflicting(retry_after=1) from conflict
            except LOST as lost:
                if attempt == TRIES:
                    raise DatabaseUnavailable(retry_after=2) from lost
            TRANSACTION_RETRIES.labels(self._service).inc()
            await asyncio.sleep(random.uniform(0.01, 0.05) * attempt)  # noqa: S311
        raise AssertionError("unreachable")

    async def _once(
        self,
        workspaces: Sequence[UUID],
        use_case: Callable[[Transaction, C], Awaitable[R]],
        command: C,
        cause: Cause,
        reporter: str | None,
    ) -> R:
        failpoint("transaction.before")
        pool = self._open_pool()
        connection = await pool.acquire()
        try:
            try:
                # a UUID prints as hex and dashes alone, so that the setting needs no parameter and no second trip
                await connection.execute(
                    f"begin; set local kgl.workspaces = '{','.join(map(UUID.__str__, workspaces))}'"
                )
                tx = Transaction(
                    connection, service=self._service, workspaces=workspaces, cause=cause, reporter=reporter
                )
                async with _cut_off_when_lost(connection):
                    result = await use_case(tx, command)
                channels = await tx.flush()
            except BaseException:
                await _rollback(connection)
                raise
            failpoint("transaction.flushed")
            await self._commit(connection)
        finally:
            pool.release(connection)
        failpoint("transaction.committed")
        for channel in channels:
            self.signals.notify(channel)
        return result

    async def _commit(self, connection: Connection) -> None:
        try:
            await connection.execute("commit")
        except LOST as lost:
            connection.terminate()
            logger.bind(service=self._service).warning("transaction.outcome_unknown")
            raise OutcomeUnknown(retry_after=1) from lost
        except asyncpg.PostgresError:
            raise  # refused by a deferred constraint, and thereby rolled back
        except BaseException:
            connection.terminate()
            raise

    async def _connect(self) -> Connection:
        connection: Connection = await asyncpg.connect(
            self._dsn,
            timeout=PATIENCE,
            command_timeout=60,
            server_settings={
                "application_name": f"kgl-{self._service}",
                "jit": "off",
                "idle_in_transaction_session_timeout": "5s",
            },
        )
        await _prepare(connection)
        return connection

    def _open_pool(self) -> Pool:
        if self._pool is None:
            raise DatabaseUnavailable("The database is not open.", retry_after=1)
        return self._pool


@asynccontextmanager
async def _cut_off_when_lost(connection: Connection) -> AsyncIterator[None]:
    """Raise UseCaseHangs a second after the connection is lost: whoever waits for an answer is told so at once.

    A transaction that is idle for 5 s is ended by the server; without this, what makes it idle would never be.
    """
    limit = asyncio.timeout(None)

    def lost(_connection: object) -> None:
        limit.reschedule(asyncio.get_running_loop().time() + _NOTICED)

    connection.add_termination_listener(lost)
    try:
        async with limit:
            yield
    except TimeoutError as late:
        if limit.expired():
            raise UseCaseHangs("the transaction was lost, and the use case went on without it") from late
        raise
    finally:
        connection.remove_termination_listener(lost)


async def _rollback(connection: Connection) -> None:
    """End the transaction; where that fails, or does not come to an end, the connection goes with it."""
    try:
        async with asyncio.timeout(_ROLLBACK_SECONDS):
            await connection.execute("rollback")
    except (*LOST, asyncpg.PostgresError):
        connection.terminate()
    except BaseException:
        connection.terminate()
        raise
