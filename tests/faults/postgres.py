"""A Postgres of our own that can be restarted and killed, reached over TCP so that a proxy can stand before it."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg

from kgl_cli.home import free_port
from kgl_cli.postgres import _wheel

_UP = 60.0
# a process that is killed loses nothing that it gave to the kernel, and the machine is not killed here
_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = '{data}'
port = {port}
max_connections = {connections}
shared_buffers = '256MB'
max_wal_size = '2GB'
log_min_messages = fatal
fsync = off
"""


class PostgresServer:
    """One cluster in a temporary folder."""

    def __init__(self, connections: int = 200) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="kgl-faults-"))
        self._data = self._folder / "data"
        self._user = "embedded_postgres" if os.name == "posix" and os.geteuid() == 0 else None
        self._connections = connections
        self.port = free_port()

    @property
    def url(self) -> str:
        """The superuser's."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    async def open(self) -> None:
        """Make the cluster, and start it."""
        self._folder.chmod(0o755)
        await asyncio.to_thread(_wheel().get_server, self._data, cleanup_mode=None)
        await self._ctl("stop", "-m", "fast")
        with (self._data / "postgresql.conf").open("a") as conf:
            conf.write(_SETTINGS.format(data=self._data, port=self.port, connections=self._connections))
        await self.start()

    async def close(self) -> None:
        """Stop it, and remove all."""
        with contextlib.suppress(subprocess.CalledProcessError):
            await self._ctl("stop", "-m", "immediate")
        shutil.rmtree(self._folder, ignore_errors=True)

    async def restart(self, *, clean: bool = True) -> None:
        await self.stop(clean=clean)
        await self.start()

    async def stop(self, *, clean: bool = False) -> None:
        if clean:
            await self._ctl("stop", "-m", "fast")
            return
        pid = int((self._data / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(_wait_for_end, pid)

    async def restart_immediately(self) -> None:
        """`pg_ctl restart -m immediate`: the backends are quit, and the log is recovered from."""
        await self._ctl("stop", "-m", "immediate")
        await self.start()

    async def start(self) -> None:
        """Start it; after a kill, as soon as the last of the old backends has noticed."""
        until = time.monotonic() + _UP
        while True:
            try:
                await self._ctl("start", "-l", str(self._data / "log"))
                break
            except subprocess.CalledProcessError:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.1)
        await self._accepts(until)

    async def _accepts(self, until: float) -> None:
        while True:
            try:
                connection: Any = await asyncpg.connect(self.url, timeout=2)
                await connection.close()
                return
            except (OSError, asyncpg.PostgresError):
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.05)

    async def _ctl(self, *arguments: str) -> None:
        await asyncio.to_thread(_wheel().pg_ctl, ["-w", *arguments], pgdata=self._data, user=self._user)


def _wait_for_end(pid: int) -> None:
    """Until the process is gone and buried: a new server looks whether that of the lock file is there."""
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.01)
