"""The same statements in the same interleaving on a real Postgres: same results, same errors, same waits.

Its clock is that of the schedule: `now()` and `clock_timestamp()` are found in a schema of their own, before the
ones of Postgres.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from kgl_servicekit.database.engine import _prepare
from tests.simulation.execution import Answer
from tests.simulation.recording import Event
from tests.simulation.world import SCHEMA

_CLOCK = """
create schema sim;
create function sim.now() returns timestamptz language sql stable
    as $$ select pg_catalog.current_setting('sim.now')::timestamptz $$;
create function sim.clock_timestamp() returns timestamptz language sql volatile
    as $$ select pg_catalog.current_setting('sim.clock')::timestamptz $$;
"""
_PATIENCE = 20.0
_DEADLOCK_SECONDS = 0.02


class Different(AssertionError):
    """The real server does not do what the simulated one did."""


async def prepare(url: str) -> None:
    """Make the tables of the simulation in an empty database."""
    name = urlsplit(url).path[1:]
    connection = await asyncpg.connect(url)
    await connection.execute(_CLOCK)
    await connection.execute(f'alter database "{name}" set search_path = sim, pg_catalog, public')
    await connection.execute(f"alter database \"{name}\" set deadlock_timeout = '{_DEADLOCK_SECONDS * 1000:.0f}ms'")
    await connection.close()
    connection = await asyncpg.connect(url)
    for statement in _tables():
        await connection.execute(statement)
    await connection.close()


def _tables() -> Iterator[str]:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    for table in SCHEMA.metadata.sorted_tables:
        yield str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            yield str(CreateIndex(index).compile(dialect=dialect))
        if table.dialect_options["postgresql"]["partition_by"]:
            yield f"create table {table.name}_all partition of {table.name} default"


class Replay:
    """One schedule on a real server."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connections: dict[str, Any] = {}
        self._running: dict[str, asyncio.Task[Any]] = {}
        self.waits = 0
        self.statements = 0

    async def run(self, events: Sequence[Event]) -> None:
        """Raises Different at the first difference."""
        self._monitor = await asyncpg.connect(self._url)
        await self._monitor.execute(f"truncate {', '.join(SCHEMA.tables)} restart identity")
        try:
            for number, event in enumerate(events):
                try:
                    await self._event(event)
                except Different as different:
                    raise Different(f"event {number} of {event.session}: {different}\n{event.sql}") from different
        finally:
            for task in self._running.values():
                task.cancel()
            for name in list(self._connections):
                await self._close(name)
            await self._monitor.close()

    async def _event(self, event: Event) -> None:
        if event.kind == "close":
            await self._close(event.session)
        elif event.kind == "start":
            await self._start(event)
        else:
            await self._compare(event)

    async def _start(self, event: Event) -> None:
        if event.session not in self._connections:
            connection = await asyncpg.connect(self._url)
            await _prepare(connection)
            self._connections[event.session] = connection
        connection = self._connections[event.session]
        self.statements += 1
        if not isinstance(event.outcome, asyncpg.InFailedSQLTransactionError) and event.sql != "rollback":
            await connection.execute(f"set sim.clock = '{event.at}'; set sim.now = '{event.began}'")
        self._running[event.session] = asyncio.create_task(_statement(connection, event))
        if event.outcome is not None:
            await self._compare(event)
        else:
            await self._waits(event.session, connection)

    async def _waits(self, session: str, connection: Any) -> None:
        pid, until = connection.get_server_pid(), asyncio.get_running_loop().time() + _PATIENCE
        sql = "select wait_event_type = 'Lock' from pg_stat_activity where pid = $1"
        while not await self._monitor.fetchval(sql, pid):
            if self._running[session].done():
                raise Different(f"simulated it waits; real it gives {self._running[session]}")
            if asyncio.get_running_loop().time() > until:
                raise Different("it neither waits nor ends")
            await asyncio.sleep(0.001)
        self.waits += 1
        await asyncio.sleep(_DEADLOCK_SECONDS * 2)  # so that whoever closes a circle is the one who finds it

    async def _compare(self, event: Event) -> None:
        task = self._running.pop(event.session)
        done, _ = await asyncio.wait({task}, timeout=_PATIENCE)
        if not done:
            task.cancel()
            raise Different(f"simulated {event.outcome!r}; real it waits")
        error = task.exception()
        if isinstance(event.outcome, Exception) or error is not None:
            if type(error) is not type(event.outcome):
                raise Different(f"simulated {event.outcome!r}; real {error!r} {'' if error else task.result()}")
            return
        tag, rows = task.result()
        assert isinstance(event.outcome, Answer)
        if tag != event.outcome.tag or _comparable(rows, event) != _comparable(event.outcome.rows, event):
            raise Different(f"simulated {event.outcome!r}; real {tag} {rows}")

    async def _close(self, name: str) -> None:
        connection = self._connections.pop(name, None)
        if connection is None:
            return
        pid = connection.get_server_pid()
        await self._monitor.execute("select pg_terminate_backend($1)", pid)
        gone = "select count(*) = 0 from pg_stat_activity where pid = $1"
        while not await self._monitor.fetchval(gone, pid):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        if (task := self._running.pop(name, None)) is not None:
            await asyncio.gather(task, return_exceptions=True)
        connection.terminate()


async def _statement(connection: Any, event: Event) -> tuple[str, list[Any]]:
    if not event.args and not event.sql.lstrip().startswith(("select", "with")):
        return await connection.execute(event.sql), []
    prepared = await connection.prepare(event.sql)
    rows = await prepared.fetch(*event.args)
    return prepared.get_statusmsg(), rows


def _comparable(rows: Sequence[Any], event: Event) -> list[Any]:
    found = [tuple(_plain(value) for value in row) for row in rows if len(row)]
    return found if "order by" in event.sql else sorted(found, key=repr)


def _plain(value: Any) -> Any:
    """Numbers of any kind, and identifiers of any class, are compared by what they say."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return tuple(sorted(value.items()))
    if value == "":
        return None  # so the driver reads a void
    return str(value) if type(value).__name__ == "UUID" else value
