"""One read through nginx, and the same at the service itself: both at the addresses of their containers."""

import asyncio
import statistics
import time

import httpx

from benchmarks.harness import Result, at_least, at_most, in_turn, percentile
from tests.stack.harness import Stack

READS, AT_ONCE, ROUNDS = 1_500, 8, 5


async def measure() -> list[Result]:
    """What nginx adds to a request at a time, and how many it lets through."""
    stack = Stack.running()
    bare_url = f"http://{await stack.address('auth-api')}:8000"
    headers = {"Authorization": f"Bearer {stack.credentials.api_key}"}
    async with (
        await stack.near_client() as edge,
        httpx.AsyncClient(base_url=bare_url, headers=headers, timeout=60, trust_env=False) as bare,
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
