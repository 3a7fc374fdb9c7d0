"""Wake-ups between processes by LISTEN and NOTIFY, on one side connection.

A NOTIFY inside a transaction takes a lock of the whole database at commit; so it is sent after the commit,
from here, at most once in 20 ms. A signal is a hint: whoever waits also looks by itself from time to time.
"""

import asyncio
import contextlib
from collections import defaultdict

import asyncpg
from loguru import logger

from kgl_servicekit.database.connection import Connection
from kgl_servicekit.waiting import wait_until_set

OUTBOX = "kgl_outbox"
JOBS = "kgl_jobs"

_PAUSE = 0.02
_RECONNECT = 0.5


class Signals:
    """Named wake-ups of one database. Use a direct connection, never a pooler."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._to_send: set[str] = set()
        self._something = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._serve())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def notify(self, channel: str) -> None:
        """Wake all that wait for the channel: here at once, in other processes within 20 ms or so."""
        self.notify_here(channel)
        self._to_send.add(channel)
        self._something.set()

    def notify_here(self, channel: str) -> None:
        """Wake those that wait for the channel in this process."""
        for event in self._waiting.get(channel, ()):
            event.set()

    def subscribe(self, channel: str) -> asyncio.Event:
        """An event that is set on each wake-up; the one who waits clears it."""
        event = asyncio.Event()
        self._waiting[channel].add(event)
        self._something.set()
        return event

    def unsubscribe(self, channel: str, event: asyncio.Event) -> None:
        self._waiting[channel].discard(event)

    async def _serve(self) -> None:
        while True:
            try:
                await self._connected()
            except Exception as lost:  # asyncpg's internal errors, too: without signals everything would be slow
                logger.bind(error=type(lost).__name__).debug("signals.connection_lost")
                await asyncio.sleep(_RECONNECT)

    async def _connected(self) -> None:
        connection: Connection = await asyncpg.connect(self._dsn, timeout=5)
        listening: set[str] = set()
        try:
            while True:
                for channel in self._waiting.keys() - listening:
                    await connection.add_listener(channel, self._heard)
                    listening.add(channel)
                await wait_until_set(self._something, 30)
                self._something.clear()
                sending, self._to_send = self._to_send, set()
                # asyncpg has no parameters in NOTIFY; pg_notify takes them
                for channel in sending:
                    await connection.execute("select pg_notify($1, '')", channel)
                if not sending:
                    await connection.execute("select 1")
                await asyncio.sleep(_PAUSE)
        finally:
            connection.terminate()

    def _heard(self, connection: Connection, pid: int, channel: str, _payload: object) -> None:
        if pid != connection.get_server_pid():  # what this process sent has woken it already
            self.notify_here(channel)
