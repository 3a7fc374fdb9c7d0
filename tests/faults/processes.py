"""Processes that are killed, stopped and paused, and started again when they end by themselves."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import httpx
import orjson

from tests.faults.nursery import Order
from tests.faults.system import Ended

READY = 60.0
_PAUSE = 0.2
MODULES = (
    "tests.faults.service",
    *(f"kgl_{name}.bootstrap" for name in ("auth", "ingest", "graph", "content", "publish")),
)


class Nursery:
    """The process that forks the others; see nursery.py."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._born: dict[str, asyncio.Future[int]] = {}
        self._ended: dict[str, asyncio.Future[int]] = {}
        self._ids = count()

    async def spawn(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> tuple[int, "asyncio.Future[int]"]:
        """A new process: its pid, and its exit status to be."""
        id, loop = str(next(self._ids)), asyncio.get_running_loop()
        self._born[id], self._ended[id] = loop.create_future(), loop.create_future()
        assert self._process.stdin is not None
        order = Order(id=id, module=module, arguments=arguments, environment=dict(environment), log=str(log))
        self._process.stdin.write(order.line())
        return await self._born[id], self._ended[id]

    async def listen(self) -> None:
        """Take in what it tells, until it ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            told = orjson.loads(line)
            if "born" in told:
                self._born.pop(told["born"]).set_result(told["pid"])
            elif "ended" in told:
                self._ended.pop(told["ended"]).set_result(told["code"])
        for lost in self._ended.values():  # it kills its children when it ends
            lost.set_result(-signal.SIGKILL)
        for unborn in self._born.values():
            unborn.cancel()


@asynccontextmanager
async def nursery() -> AsyncIterator[Nursery]:
    """One for a run; what it has forked ends with it."""
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "tests.faults.nursery", *MODULES)
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, start_new_session=True)
    made = Nursery(process)
    listening = asyncio.create_task(made.listen())
    try:
        yield made
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
        await listening


class ManagedProcess:
    """One process; `port` is where it answers health checks, `log` where its lines go."""

    def __init__(
        self,
        nursery: Nursery,
        name: str,
        command: tuple[str, Sequence[str]],
        environment: Mapping[str, str],
        *,
        port: int,
        log: Path,
    ) -> None:
        self._nursery = nursery
        self._name = name
        self._module, self._arguments = command
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("KGL_")} | dict(environment)
        self._log = log
        self._wanted = False
        self._ended: asyncio.Future[int] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self.pid = 0
        self.port = port
        self._deaths = 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def deaths(self) -> int:
        return self._deaths

    async def start(self, *, ready: bool = True) -> None:
        self._wanted = True
        if self._keeper is None or self._keeper.done():
            await self._spawn()
            self._keeper = asyncio.create_task(self._keep())
        if ready:
            await self.ready()

    async def ready(self, within: float = READY) -> None:
        """Wait until it says that it is."""
        until = time.monotonic() + within
        async with httpx.AsyncClient(trust_env=False, timeout=2) as http:
            while time.monotonic() < until:
                with contextlib.suppress(httpx.TransportError):
                    if (await http.get(f"http://127.0.0.1:{self.port}/health/ready")).status_code == 200:
                        return
                await asyncio.sleep(0.05)
        raise AssertionError(f"{self.name} is not ready within {within} s: {self._log.read_text()[-2000:]}")

    async def kill(self) -> None:
        self._wanted = False
        await self._end(signal.SIGKILL)

    async def stop(self) -> Ended:
        self._wanted = False
        started = time.monotonic()
        code = await self._end(signal.SIGTERM)
        return Ended(code, time.monotonic() - started)

    async def finish(self) -> int:
        """Wait until it ends by itself, once; the answer is its exit status."""
        self._wanted = False
        assert self._ended is not None
        return await self._end(0)

    def change(self, **environment: str) -> None:
        kept = {**self._environment, **environment}
        self._environment = {name: value for name, value in kept.items() if value}

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def resources(self) -> Mapping[str, float]:
        status = Path(f"/proc/{self.pid}/status").read_text()
        rss = next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]
        return {"fds": len(list(Path(f"/proc/{self.pid}/fd").iterdir())), "rss": int(rss) / 1024}

    async def _spawn(self) -> None:
        self.pid, self._ended = await self._nursery.spawn(self._module, self._arguments, self._environment, self._log)

    async def _keep(self) -> None:
        """Start it again whenever it ends though it is wanted."""
        while await self._ended_unasked():
            self._deaths += 1
            await self._spawn()

    async def _ended_unasked(self) -> bool:
        assert self._ended is not None
        await self._ended
        if self._wanted:
            await asyncio.sleep(_PAUSE)
        return self._wanted

    async def _end(self, number: int) -> int:
        if self._ended is None:
            return 0
        if not self._ended.done():
            os.kill(self.pid, number)
        code = await self._ended
        if self._keeper is not None:
            await self._keeper
        return code
