"""The database server of an embedded system is stopped by the last one that uses it, and by nobody before."""

import asyncio
import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from rich.console import Console

from kgl_cli import flock, system
from kgl_cli.dev import serve
from kgl_cli.doctor import doctor
from kgl_cli.drift import drift
from kgl_cli.home import Home, HomeRefused, free_port
from kgl_cli.locks import server_lock
from kgl_cli.postgres import Databases, open_databases, stop_server
from kgl_cli.where import databases_of


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """One with a server of its own, which the user of Postgres reaches."""
    monkeypatch.delenv("KGL_POSTGRES_URL", raising=False)
    folder = Path(tempfile.mkdtemp(prefix="kgl-locks-"))
    folder.chmod(0o755)
    home = Home(folder)
    home.keep_port(free_port())
    yield home
    stop_server(home)
    shutil.rmtree(folder, ignore_errors=True)


async def answers(databases: Databases) -> bool:
    connection: Any = await asyncpg.connect(databases.superuser)
    try:
        return bool(await connection.fetchval("select true"))
    finally:
        await connection.close()


def runs(home: Home) -> bool:
    return (home.postgres / "postmaster.pid").exists()


@pytest.mark.timeout(300)
async def test_of_two_commands_at_once_the_last_one_stops_the_server(home: Home) -> None:
    async with AsyncExitStack() as second:
        async with databases_of(home), asyncio.TaskGroup() as group:
            for _ in range(4):  # each sets the passwords of the same roles
                group.create_task(open_databases(home))
            databases = await second.enter_async_context(databases_of(home))
        assert await answers(databases)
    assert not runs(home)


@pytest.mark.timeout(300)
async def test_a_dev_that_is_starting_keeps_its_server_and_commands_are_told_of_it(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: asyncio.Future[Databases] = asyncio.get_running_loop().create_future()

    async def migrating(databases: Databases, _services: object) -> None:
        opened.set_result(databases)
        await asyncio.Event().wait()

    monkeypatch.setattr(system, "_migrate", migrating)
    out = io.StringIO()
    console = Console(file=out, width=200)
    dev = asyncio.create_task(serve(home, None, console))
    waited: set[asyncio.Future[Any]] = {opened, dev}
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    if dev.done():
        dev.result()
    databases = await opened
    assert await doctor(home, home.path, console, embedded=True, json=False) == 1
    assert "kgl dev starts or ends on this KGL_HOME (pid " in out.getvalue()
    with pytest.raises(HomeRefused, match="ask again in a moment"):
        await drift(home, home.path, console, embedded=True, repair=False, json=False)
    monkeypatch.setattr(Home, "dev", lambda _: None)  # it began just after the command had looked
    assert await doctor(home, home.path, console, embedded=True, json=False) == 1
    assert await answers(databases)
    dev.cancel()
    await asyncio.gather(dev, return_exceptions=True)
    assert not runs(home)


async def test_who_comes_while_the_server_is_stopped_waits_and_is_told_when_that_takes_too_long(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kgl_cli.locks._STOPPED", 0.0)
    async with server_lock(home) as last:
        assert flock.alone(last)
        with pytest.raises(HomeRefused, match="stops the database server"):
            async with databases_of(home):
                pass
        monkeypatch.setattr("kgl_cli.locks._STOPPED", 60.0)
        async with AsyncExitStack() as stack:
            coming = asyncio.create_task(stack.enter_async_context(server_lock(home)))
            await asyncio.sleep(0)
            assert not coming.done()
            last.close()
            await coming
