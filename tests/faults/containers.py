"""Servers of the compose system: ended and started by Docker, and reached at addresses that stay."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import asyncpg

from kgl_contracts.rights import SERVICES
from kgl_servicekit.testing.polling import eventually
from tests.stack.harness import Stack

UP = 120.0
_SUBNETS = [f"10.251.{number}" for number in range(8)]


class ContainerServer:
    """One container. `accepts` raises, or says False, until the server in it can be used."""

    def __init__(self, stack: Stack, service: str, accepts: Callable[[], Awaitable[bool]]) -> None:
        self._stack = stack
        self._accepts = accepts
        self.service = service
        self.name = stack.container(service)

    async def restart(self, *, clean: bool = True) -> None:
        await self.stop(clean=clean)
        await self.start()

    async def restart_immediately(self) -> None:
        """SIGQUIT: a Postgres quits its backends, and recovers from its log when it starts again."""
        await self._stack.docker("kill", "--signal", "QUIT", self.name)
        await self._stack.docker("wait", self.name)
        await self.start()

    async def stop(self, *, clean: bool = False) -> None:
        await self._stack.docker(*(("stop", "--time", "30") if clean else ("kill",)), self.name)

    async def start(self) -> None:
        await self._stack.docker("start", self.name)
        await self.accepts()

    async def accepts(self) -> None:
        """Wait until it does."""
        await eventually(self._ready, within=UP, every=0.05, what=f"{self.service} does not accept")

    async def freeze(self, seconds: float) -> None:
        """For so long its processes stand still: connections stay, new ones are taken, and nothing is answered."""
        await self._stack.docker("pause", self.name)
        try:
            await asyncio.sleep(seconds)
        finally:
            await self._stack.docker("unpause", self.name)

    async def slow_down(self, seconds: float, *, still: float = 0.4, alive: float = 0.1) -> None:
        """For so long they get to work a fifth of the time."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await self.freeze(still)
            await asyncio.sleep(alive)

    async def _ready(self) -> bool:
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return await self._accepts()
        return False


async def postgres_accepts(url: str) -> bool:
    """Whether a Postgres takes a connection; raises while it does not."""
    connection = await asyncpg.connect(url, timeout=2)
    await connection.close()
    return True


@asynccontextmanager
async def fixed_address(stack: Stack, service: str) -> AsyncIterator[str]:
    """An address of a container that stays through restarts, in a network of its own: those of the system change."""
    network = f"{stack.project}-{service}-door"
    await _forget(stack, network, service)
    for subnet in _SUBNETS:
        if await _made(stack, network, f"{subnet}.0/29"):
            address = f"{subnet}.3"
            break
    else:
        raise AssertionError(f"none of {', '.join(_SUBNETS)} is free")
    try:
        await stack.docker("network", "connect", "--ip", address, network, stack.container(service))
        yield address
    finally:
        await _forget(stack, network, service)


async def _made(stack: Stack, network: str, subnet: str) -> bool:
    await stack.docker("network", "create", "--subnet", subnet, network, check=False)
    return bool(await stack.docker("network", "ls", "--quiet", "--filter", f"name=^{network}$"))


async def _forget(stack: Stack, network: str, service: str) -> None:
    await stack.docker("network", "disconnect", "--force", network, stack.container(service), check=False)
    await stack.docker("network", "rm", "--force", network, check=False)


async def takes_connections(stack: Stack, service: str, port: int) -> bool:
    """Whether a port of a container is open, wherever the container is now."""
    async with asyncio.timeout(1):
        _, writer = await asyncio.open_connection(await stack.address(service), port)
    writer.close()
    return True


def open_port(stack: Stack, service: str, port: int) -> Callable[[], Awaitable[bool]]:
    """The same, to be asked later."""
    return partial(takes_connections, stack, service, port)


@asynccontextmanager
async def only(stack: Stack, *services: str) -> AsyncIterator[None]:
    """All containers but these stand still meanwhile, so that the processors are for what is looked at."""
    others = [name for service, name in await _containers(stack, "running") if service not in services]
    await stack.docker("pause", *others)
    try:
        yield
    finally:
        await resume_all(stack)


async def resume_all(stack: Stack) -> None:
    """Let every container go on that stands still."""
    if still := await _containers(stack, "paused"):
        await stack.docker("unpause", *(name for _, name in still))


async def _containers(stack: Stack, state: str) -> list[tuple[str, str]]:
    """Those in this state: service, name."""
    said = await stack.compose("ps", "--format", "json")
    rows = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return [(row["Service"], row["Name"]) for row in rows if row["State"] == state]


async def empty_kafka(stack: Stack) -> None:
    """The broker has lost its disk, topics, users and rights; then its administrator sets up what the system needs."""
    broker = ContainerServer(stack, "kafka", open_port(stack, "kafka", 9092))
    await broker.stop()
    volume, image = f"{stack.project}_kafka:/var/lib/kafka/data", "apache/kafka:4.3.1"
    await stack.docker(
        *("run", "--rm", "--user", "0", "--entrypoint", "find", "--volume", volume, image),
        *("/var/lib/kafka/data", "-mindepth", "1", "-delete"),
    )
    await broker.start()
    await stack.compose("run", "--rm", "--no-deps", "setup-kafka")


async def refill_all(stack: Stack) -> None:
    """As `kgl refill` does: every service sends again what the broker has lost."""
    for service in SERVICES:
        await stack.compose("run", "--rm", "--no-deps", "-T", f"{service}-worker", "refill")
