"""Servers that die, restart, or are away for a minute: it is told, nothing accepted is lost, work goes on by itself.

Every fault is met by the same system; that its processes are not restarted in between is looked at too.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import pytest

from kgl_servicekit.testing.polling import eventually
from tests.stack.harness import Stack
from tests.stack.watch import answers_at, ended_at, health_of, watching

AWAY = 60.0
BACK_WITHIN = 5.0
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
    ("server", "dependency", "concerned", "door"),
    [
        ("minio", "objects", ("ingest-api", "ingest-worker", "graph-worker"), (9000, "/minio/health/live")),
        ("weaviate", "vectors", ("graph-api", "graph-worker"), (8080, "/v1/.well-known/ready")),
        ("keycloak", "keycloak", ("auth-api",), (9000, "/health/ready")),
    ],
)
async def test_a_server_that_is_away_for_a_minute_is_told_and_waited_for(
    stack: Stack, lives: None, server: str, dependency: str, concerned: Sequence[str], door: tuple[int, str]
) -> None:
    writer = Writer(stack)
    async with writer.writing():
        await eventually(lambda: have(writer, 3), within=60)
        await goes_and_comes_back(stack, server, dependency, concerned, door, away=AWAY)
        done = len(writer.accepted)
        await eventually(lambda: have(writer, done + 5), within=90, what="no upload is accepted any more")
    await writer.check()


@pytest.mark.parametrize(
    ("server", "dependency", "concerned", "port"),
    [
        ("postgres", "database", OURS, 5432),
        ("kafka", "bus", tuple(name for name in OURS if name.endswith("-worker")), 9092),
    ],
)
async def test_the_database_and_the_bus_are_told_to_be_away_as_soon(
    stack: Stack, lives: None, server: str, dependency: str, concerned: Sequence[str], port: int
) -> None:
    await goes_and_comes_back(stack, server, dependency, concerned, (port, None), away=5.0)


async def goes_and_comes_back(
    stack: Stack, server: str, dependency: str, concerned: Sequence[str], door: tuple[int, str | None], away: float
) -> None:
    """Take a server away for so many seconds, and see that readiness tells the truth of it both times."""
    async with watching(await health_of(stack, concerned), dependency) as watch:
        await stack.docker("stop", "--time", "10", stack.container(server))
        try:
            gone = await ended_at(stack, server)
            await watch.told_down(gone)
            await asyncio.sleep(max(0.0, gone + away - time.time()))
        finally:
            await stack.docker("start", stack.container(server))
        await watch.told_up(await answers_at(stack, server, *door), BACK_WITHIN)


async def have(writer: Writer, many: int) -> bool:
    return len(writer.accepted) >= many
