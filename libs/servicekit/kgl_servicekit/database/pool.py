"""Connections that are kept open and lent out: what a transaction needs of a pool, and no more.

A pool of asyncpg's own makes a task and two timers for each loan, and wraps each connection; that is as much work
as a statement. Here a loan is one look at a list, because whoever borrows leaves no transaction behind, or
terminates the connection.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

from kgl_servicekit.database.connection import Connection

PATIENCE = 10.0
IDLE_SECONDS = 300.0
_CLOSING = 5.0


class Pool:
    """Up to `size` connections, made when they are needed; the last one that was used is lent first."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], size: int) -> None:
        self._connect = connect
        self._size = size
        self._places = asyncio.Semaphore(size)
        self._idle: deque[tuple[Connection, float]] = deque()
        self._lent: set[Connection] = set()

    async def acquire(self) -> Connection:
        """An open connection. TimeoutError when none becomes free in 10 s, and what `connect` raises."""
        if self._places.locked():
            async with asyncio.timeout(PATIENCE):
                await self._places.acquire()
        else:
            await self._places.acquire()
        try:
            connection = self._last_idle() or await self._connect()
        except BaseException:
            self._places.release()
            raise
        self._lent.add(connection)
        return connection

    def release(self, connection: Connection) -> None:
        """Take a connection back that is in no transaction, or closed."""
        self._lent.discard(connection)
        now = time.monotonic()
        if not connection.is_closed():
            self._idle.append((connection, now))
        while self._idle and self._idle[0][1] < now - IDLE_SECONDS:
            self._idle.popleft()[0].terminate()
        self._places.release()

    async def close(self) -> None:
        """Close all; those that are lent may come back for 5 seconds."""
        try:
            async with asyncio.timeout(_CLOSING):
                for _ in range(self._size):
                    await self._places.acquire()
                while self._idle:
                    await self._idle.pop()[0].close()
        except TimeoutError:
            for connection in (*self._lent, *(idle for idle, _ in self._idle)):
                connection.terminate()

    def _last_idle(self) -> Connection | None:
        while self._idle:
            connection, _ = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None
