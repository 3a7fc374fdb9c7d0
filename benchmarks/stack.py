"""`make bench-stack`: the compose system from outside. How soon it is healthy, what it takes, what its edge costs.

`make bench-stack` starts a system of its own for it (`tools/test_stack.py`); the settings come from there.
"""

import asyncio
import os
import re
import statistics
import subprocess
import time

import httpx

from benchmarks.harness import Result, at_least, at_most, in_turn, percentile
from benchmarks.hop import against_plain, hop_results
from benchmarks.hop_system import kafka_server
from kgl_servicekit.testing.servers import real_servers
from tests.stack.harness import Stack

IDLE_SECONDS = 60
READS, AT_ONCE, ROUNDS = 1_500, 8, 5
_SIZE = re.compile(r"([0-9.]+)([KMG]iB|B)")
_UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


async def measure() -> list[Result]:
    """Start and memory, the durable hop on the real broker, and the edge."""
    healthy = await _healthy_after()
    await asyncio.sleep(IDLE_SECONDS)
    results = [
        at_most("stack: all healthy, images present, new volumes", "s", healthy, 60),
        at_most("stack: memory of all containers, idle", "GB", await _memory() / 1e9, 3),
    ]
    async with kafka_server(real_servers()) as system:
        results += await hop_results(system, 1)
        results.append(await against_plain(system))
    stack = Stack.running()
    results += await _edge(stack)
    return results


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


async def _edge(stack: Stack) -> list[Result]:
    """One read through nginx, and the same at the service itself: a request at a time, and as many as go."""
    bare_url = f"http://{await stack.address('auth-api')}:8000"
    headers = {"Authorization": f"Bearer {stack.credentials.api_key}"}
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    async with (
        httpx.AsyncClient(base_url=stack.url, headers=headers, limits=limits, trust_env=False) as edge,
        httpx.AsyncClient(base_url=bare_url, headers=headers, limits=limits, trust_env=False) as bare,
    ):
        added = statistics.median(
            [
                percentile(await _delays(edge, 300), 0.5) - percentile(await _delays(bare, 300), 0.5)
                for _ in range(ROUNDS)
            ]
        )
        pair = await in_turn(lambda: _rate(edge), lambda: _rate(bare))
    return [
        at_most("edge: added to a read at p50", "ms", added * 1000, 0.25),
        at_least("edge: reads, against the service itself", "1/s", pair, 0.8),
    ]


async def _delays(client: httpx.AsyncClient, count: int) -> list[float]:
    found = []
    for _ in range(count):
        begun = time.perf_counter()
        answer = await client.get("/auth/v1/me")
        found.append(time.perf_counter() - begun)
        assert answer.status_code == 200, answer.text
        await asyncio.sleep(0.006)  # below the edge's rate for one address
    return found


async def _rate(client: httpx.AsyncClient) -> float:
    left = iter(range(READS))

    async def one() -> None:
        for _ in left:
            answer = await client.get("/auth/v1/me")
            assert answer.status_code == 200, answer.text

    begun = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(AT_ONCE)))
    return READS / (time.perf_counter() - begun)
