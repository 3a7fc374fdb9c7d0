"""Who uses an embedded system.

dev.lock      held by the `kgl dev` of the home, from before it opens the databases to its end; has its pid
server.lock   shared by all that use the database server; who has it alone in the end was the last, and stops it
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import IO

from kgl_cli import flock
from kgl_cli.home import Home, HomeRefused

_LOOKED_AT = 2.0  # seconds; who looks whether there is a dev holds its lock for a moment
_STOPPED = 60.0  # seconds that the last one may take to stop the server
_AGAIN = 0.05


@contextmanager
def only_dev(home: Home) -> Iterator[None]:
    """Be the `kgl dev` of this home; raises HomeRefused when there is one."""
    with (home.path / "dev.lock").open("a+") as file:
        until = time.monotonic() + _LOOKED_AT
        while not flock.alone(file):
            if time.monotonic() > until:
                raise HomeRefused(_other(home))
            time.sleep(_AGAIN)
        home.clear_running()  # what one that was killed has left
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _other(home: Home) -> str:
    running = home.running()
    if running is not None:
        return f"A kgl dev runs on this KGL_HOME already: {running.url} (pid {running.pid})."
    return f"Another kgl dev starts or ends on this KGL_HOME (pid {home.dev()}); wait for it, or end it."


@asynccontextmanager
async def server_lock(home: Home) -> AsyncIterator[IO[str]]:
    """Use the database server beside others; waits while one stops it. Raises HomeRefused when that takes too long."""
    with (home.path / "server.lock").open("a") as file:
        until = time.monotonic() + _STOPPED
        while not flock.shared(file):
            if time.monotonic() > until:
                raise HomeRefused(
                    f"Another kgl command stops the database server of {home.path}, for {_STOPPED:.0f} s now; "
                    f"{home.postgres / 'log'} says what it waits for."
                )
            await asyncio.sleep(_AGAIN)
        yield file
