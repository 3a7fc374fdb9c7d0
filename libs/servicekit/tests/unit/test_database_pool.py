import asyncio
from typing import Any, cast

import pytest

from kgl_servicekit.database import pool as pools
from kgl_servicekit.database.connection import Connection
from kgl_servicekit.database.pool import Pool


class FakeConnection:
    """Is open until somebody closes it."""

    def __init__(self) -> None:
        self.closed = False

    def is_closed(self) -> bool:
        return self.closed

    def terminate(self) -> None:
        self.closed = True

    async def close(self) -> None:
        self.closed = True


class FakeServer:
    """Counts its connections; `outage` is raised instead of one."""

    def __init__(self) -> None:
        self.made: list[FakeConnection] = []
        self.outage: Exception | None = None

    async def connect(self) -> Connection:
        if self.outage is not None:
            raise self.outage
        self.made.append(FakeConnection())
        return cast(Any, self.made[-1])


async def test_connections_are_made_when_needed_and_the_last_used_is_lent_first() -> None:
    server = FakeServer()
    pool = Pool(server.connect, 3)
    first, second = await pool.acquire(), await pool.acquire()
    pool.release(first)
    pool.release(second)
    assert await pool.acquire() is second
    assert await pool.acquire() is first
    assert len(server.made) == 2


async def test_who_comes_when_all_are_lent_waits_for_the_first_that_comes_back() -> None:
    pool = Pool(FakeServer().connect, 1)
    lent = await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    assert not waiting.done()
    pool.release(lent)
    assert await waiting is lent


async def test_waiting_ends_with_an_error_and_loses_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "PATIENCE", 0.0)
    pool = Pool(FakeServer().connect, 1)
    lent = await pool.acquire()
    with pytest.raises(TimeoutError):
        await pool.acquire()
    pool.release(lent)
    assert await pool.acquire() is lent


async def test_a_closed_connection_is_never_lent_again() -> None:
    server = FakeServer()
    pool = Pool(server.connect, 2)
    broken, idle = await pool.acquire(), await pool.acquire()
    broken.terminate()
    pool.release(broken)
    pool.release(idle)
    idle.terminate()
    assert await pool.acquire() not in (broken, idle)
    assert len(server.made) == 3


async def test_a_failed_connection_gives_its_place_back() -> None:
    server = FakeServer()
    pool = Pool(server.connect, 1)
    server.outage = ConnectionRefusedError()
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            await pool.acquire()
    server.outage = None
    await pool.acquire()


async def test_what_was_not_needed_for_long_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeServer()
    pool = Pool(server.connect, 2)
    first, second = await pool.acquire(), await pool.acquire()
    pool.release(first)
    monkeypatch.setattr(pools, "IDLE_SECONDS", -1.0)
    pool.release(second)
    assert [connection.closed for connection in server.made] == [True, True]


async def test_closing_closes_all_and_ends_what_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "_CLOSING", 0.0)
    server = FakeServer()
    pool = Pool(server.connect, 2)
    idle, _lent = await pool.acquire(), await pool.acquire()
    pool.release(idle)
    await pool.close()
    assert all(connection.closed for connection in server.made)
