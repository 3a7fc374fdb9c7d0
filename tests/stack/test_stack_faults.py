"""Servers that die, restart, or are away for a minute: it is told, nothing accepted is lost, work goes on by itself.

Every fault is met by the same system; that its processes are not restarted in between is looked at too.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from uuid import uuid4

import httpx
import pytest

from kgl_servicekit.testing.polling import eventually
from tests.stack.harness import Stack

AWAY = 60.0
OURS = tuple(
    f"{name}-{role}" for name in ("auth", "ingest", "graph", "content", "publish") for role in ("api", "worker")
)


@pytest.fixture
async def lives(stack: Stack) -> AsyncIterator[None]:
    """No process of ours is restarted while the test runs."""
    before = await started(stack)
    yield
    await eventually(lambda: all_ready(stack), within=60, every=1, what="not everything is ready again")
    assert await started(stack) == before


async def started(stack: Stack) -> dict[str, str]:
    said = await stack.docker(
        "inspect",
        "--format",
        "{{.Name}} {{.State.StartedAt}} {{.RestartCount}}",
        *(stack.container(name) for name in OURS),
    )
    return dict(line.split(" ", 1) for line in said.splitlines())


async def all_ready(stack: Stack) -> bool:
    return all(await asyncio.gather(*(stack.is_ready(name) for name in OURS)))


class Writer:
    """Uploads as fast as one client does, and remembers what was accepted and what was told otherwise."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.mark = uuid4().hex
        self.accepted: list[str] = []
        self.refused: list[httpx.Response] = []
        self.unknown = 0

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._write())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _write(self) -> None:
        number = 0
        async with self.stack.client() as client:
            while True:
                number += 1
                body = {
                    "text": f"# {self.mark} {number}\n\nThe {number}th of {self.mark}.",
                    "media_type": "text/markdown",
                }
                key = {"Idempotency-Key": f"{self.mark}-{number}"}
                try:
                    answer = await client.post("/ingest/v1/documents", json=body, headers=key)
                except httpx.TransportError:
                    self.unknown += 1
                    continue
                if answer.status_code == 202:
                    self.accepted.append(answer.json()["id"])
                else:
                    self.refused.append(answer)
                await asyncio.sleep(0.3)

    async def check(self) -> None:
        """All that was accepted is done, and what was not was told so as it should be."""
        assert self.accepted
        for answer in self.refused:
            assert answer.status_code in {502, 503, 504}, answer.text
            assert answer.headers["content-type"] == "application/problem+json"
            assert int(answer.headers["retry-after"]) >= 1
        async with self.stack.client() as client:
            for operation in self.accepted:
                ended = await self.stack.ended(client, operation, within=240)
                assert ended["state"] == "done", ended


@pytest.mark.timeout(600)
@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("server", ["kafka", "postgres"])
async def test_a_server_that_restarts_loses_nothing(stack: Stack, lives: None, server: str, end: str) -> None:
    writer = Writer(stack)
    async with writer.writing():
        await eventually(lambda: have(writer, 3), within=60)
        await stack.docker(end, stack.container(server))
        await stack.docker("start", stack.container(server))
        done = len(writer.accepted)
        await eventually(lambda: have(writer, done + 5), within=120, what="no upload is accepted any more")
    await writer.check()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("server", "dependency", "concerned"),
    [
        ("minio", "objects", ("ingest-api", "ingest-worker", "graph-worker")),
        ("weaviate", "vectors", ("graph-api", "graph-worker")),
        ("keycloak", "keycloak", ("auth-api",)),
    ],
)
async def test_a_server_that_is_away_for_a_minute_is_told_and_waited_for(
    stack: Stack, lives: None, server: str, dependency: str, concerned: Sequence[str]
) -> None:
    writer = Writer(stack)
    async with writer.writing():
        await eventually(lambda: have(writer, 3), within=60)
        await stack.docker("stop", "--time", "5", stack.container(server))
        gone = time.monotonic()
        for process in concerned:
            await eventually(partial(down, stack, process, dependency), within=4, every=0.1)
        told = time.monotonic() - gone
        await asyncio.sleep(max(0.0, AWAY - told))
        await stack.docker("start", stack.container(server))
        done = len(writer.accepted)
        await eventually(lambda: have(writer, done + 5), within=90, what="no upload is accepted any more")
    await writer.check()


async def have(writer: Writer, many: int) -> bool:
    return len(writer.accepted) >= many


async def down(stack: Stack, process: str, dependency: str) -> bool:
    told = await stack.readiness(process)
    return told is not None and not told["dependencies"][dependency]["up"]
