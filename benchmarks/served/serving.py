"""How both sides of `benchmarks.http` are served: by the same uvicorn, on a core of their own."""

import os
import socket
from typing import Any

import uvicorn

SERVER_CORE = 0
CLIENT_CORE = 1


def pin(core: int) -> None:
    """Keep this process, and what it starts, on one core; where that cannot be, leave it."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})


def serve(app: Any, listening: int) -> None:
    """Serve an application on an inherited socket until the process is ended."""
    pin(SERVER_CORE)
    config = uvicorn.Config(app, loop="uvloop", http="httptools", lifespan="on", log_config=None, access_log=False)
    # as a socket, not as `fd`: that would be taken for a Unix one, without TCP_NODELAY
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=listening)])
