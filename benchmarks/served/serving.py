"""How both sides of `benchmarks.http` are served: by the same uvicorn, on a core of their own."""

import socket
from typing import Any

import uvicorn

from benchmarks.served.cores import SERVER_CORE, pin


def serve(app: Any, listening: int) -> None:
    """Serve an application on an inherited socket until the process is ended."""
    pin(SERVER_CORE)
    config = uvicorn.Config(app, loop="uvloop", http="httptools", lifespan="on", log_config=None, access_log=False)
    # as a socket, not as `fd`: that would be taken for a Unix one, without TCP_NODELAY
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=listening)])
