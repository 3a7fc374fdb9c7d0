"""`make bench-stack`: the compose system from outside. How soon it is healthy, what it takes, and what its parts cost.

`make bench-stack` starts a system of its own for it (`tools/test_stack.py`); the settings come from there.
"""

import asyncio
import os
import re
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable

import httpx

from benchmarks.harness import Pair, Result, at_least, at_most, in_turn, percentile
from benchmarks.hop import against_plain, hop_results
from benchmarks.hop_system import kafka_server
from kgl_servicekit.objects.s3 import S3Store
from kgl_servicekit.objects.s3_settings import s3_connection
from kgl_servicekit.testing.servers import real_servers
from tests.stack.harness import Stack

IDLE_SECONDS = 60
READS, AT_ONCE, ROUNDS = 1_500, 8, 5
FILE, FILES = 20 * 1024 * 1024, 5
_SIZE = re.compile(r"([0-9.]+)([KMG]iB|B)")
_UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}

Timed = Callable[[], Awaitable[None]]


async def measure() -> list[Result]:
    """Start and memory, the durable hop on the real broker, the edge, and files."""
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
    results += await _files(stack)
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


async def _files(stack: Stack) -> list[Result]:
    """A file of 20 MiB up and down: through edge and API, by a signed link, and at the object store itself."""
    servers = real_servers()
    assert servers.s3 is not None
    login = {"access_key": servers.s3.user, "secret_key": servers.s3.password}
    place = {"bucket": "kgl-documents", "region": "us-east-1", "public": servers.s3.url}
    connection = s3_connection(servers.s3.url, None, **place, **login)
    store = S3Store(connection)
    await store.start()
    try:
        async with stack.client() as client:
            return await _file_results(client, store)
    finally:
        await store.stop()


async def _file_results(client: httpx.AsyncClient, store: S3Store) -> list[Result]:
    names = iter(range(10_000))
    documents: list[str] = []

    def content() -> bytes:
        return f"{next(names)} of {time.time_ns()}\n".encode() + os.urandom(FILE // 2).hex().encode()[: FILE - 64]

    async def up_by_api() -> None:
        answer = await client.post(
            "/ingest/v1/documents", files={"file": ("bench.txt", content(), "text/plain")}, timeout=120
        )
        assert answer.status_code == 202, answer.text
        documents.append(answer.json()["subject"])

    async def up_direct() -> None:
        await store.put(f"bench/{next(names)}-{time.time_ns()}", content())

    up = await in_turn(lambda: _rate_of(up_by_api), lambda: _rate_of(up_direct))
    key = f"bench/{time.time_ns()}"
    await store.put(key, content())

    async def down_by_api() -> None:
        await _read(client, f"/ingest/v1/documents/{documents[0]}/file")

    async def down_by_link() -> None:
        link = (await client.get(f"/ingest/v1/documents/{documents[0]}/file/link")).json()["url"]
        async with httpx.AsyncClient(trust_env=False, timeout=60) as anybody:
            await _read(anybody, link)

    direct_link = store.link(key, 600, name="bench.txt")
    assert direct_link is not None

    async def down_direct() -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=60) as anybody:
            await _read(anybody, direct_link)

    return [
        at_least("files: upload through edge and API, against the store", "files/s", up, 0.85),
        at_least("files: download through edge and API", "files/s", await _both(down_by_api, down_direct), 0.85),
        at_least("files: download by a signed link", "files/s", await _both(down_by_link, down_direct), 0.98),
    ]


async def _both(ours: Timed, limit: Timed) -> Pair:
    return await in_turn(lambda: _rate_of(ours), lambda: _rate_of(limit))


async def _rate_of(work: Timed) -> float:
    begun = time.perf_counter()
    for _ in range(FILES):
        await work()
    return FILES / (time.perf_counter() - begun)


async def _read(client: httpx.AsyncClient, url: str) -> None:
    async with client.stream("GET", url) as answer:
        assert answer.status_code == 200, url
        async for _ in answer.aiter_raw():
            pass
