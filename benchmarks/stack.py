"""The compose system: how soon it is healthy, and what it takes.

`make bench-stack` starts a system of its own for it (`tools/test_stack.py`); the settings come from there.
"""

import asyncio
import os
import re
import subprocess
import time

from benchmarks.harness import Result, at_most
from tests.stack.harness import Stack
from tools.test_stack import write_servers

IDLE_SECONDS = 60
_SIZE = re.compile(r"([0-9.]+)([KMG]iB|B)")
_UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


async def measure() -> list[Result]:
    """Start and memory."""
    healthy = await _healthy_after()
    write_servers()
    await asyncio.sleep(IDLE_SECONDS)
    return [
        at_most("stack: all healthy, images present, new volumes", "s", healthy, 60),
        at_most("stack: memory of all containers, idle", "GB", await _memory() / 1e9, 3),
    ]


async def _healthy_after() -> float:
    """Seconds of `docker compose up --wait` with new volumes."""
    compose = ("docker", "compose", "--env-file", os.environ["KGL_ENV_FILE"])
    await asyncio.to_thread(subprocess.run, [*compose, "down", "--volumes"], check=True, capture_output=True)
    begun = time.monotonic()
    up = [*compose, "up", "--detach", "--wait", "--wait-timeout", "300", "--pull", "never", "--no-build"]
    await asyncio.to_thread(subprocess.run, up, check=True, capture_output=True)
    return time.monotonic() - begun


async def _memory() -> float:
    """Bytes of all containers of the project together."""
    stack = Stack.running()
    names = (await stack.docker("ps", "--filter", f"name=^{stack.project}-", "--format", "{{.Names}}")).split()
    said = await stack.docker("stats", "--no-stream", "--format", "{{.MemUsage}}", *names)
    sizes = [_SIZE.search(line) for line in said.splitlines()]
    return sum(float(size[1]) * _UNITS[size[2]] for size in sizes if size)
