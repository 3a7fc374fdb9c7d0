"""What processes say of one dependency, asked again and again: when did they notice that it went, or came back?"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

import httpx

from tests.stack.harness import Stack

EVERY = 0.1
GOES_WITHIN = 2.0


@dataclass(slots=True)
class Watch:
    """The reports of each process: when it was answered (Unix time), and whether the dependency is up.

    `late` is how long a process took to say that it lives, which asks nobody: so late is this machine itself.
    """

    reports: dict[str, list[tuple[float, bool]]] = field(default_factory=dict)
    late: dict[str, float] = field(default_factory=dict)

    async def ask(self, process: str, url: str, dependency: str) -> None:
        """Ask until cancelled; a process that does not answer has said nothing."""
        reports = self.reports.setdefault(process, [])
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    answer = await client.get(f"{url}/ready")
                    told = answer.json()["dependencies"][dependency]
                    goes_on = told["required"] and answer.status_code == 200  # it may not, without what it needs
                    reports.append((time.time(), told["up"] or goes_on))
                await asyncio.sleep(EVERY)

    async def ask_alive(self, process: str, url: str) -> None:
        """Measure until cancelled how late the process and this machine are."""
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            while True:
                asked = time.time()
                with contextlib.suppress(httpx.TransportError):
                    await client.get(f"{url}/live")
                self.late[process] = max(self.late.get(process, 0.0), time.time() - asked)
                await asyncio.sleep(EVERY)

    def since(self, moment: float) -> dict[str, list[tuple[float, bool]]]:
        """The reports of each process since then, by seconds after it."""
        return {
            process: [(at - moment, up) for at, up in reports if at >= moment]
            for process, reports in self.reports.items()
        }

    async def told_down(self, gone: float) -> None:
        """Each process says so within 2 s, and nothing else from then on."""
        await asyncio.sleep(max(0.0, gone + GOES_WITHIN + 2.0 - time.time()))
        for process, reports in self.since(gone).items():
            within = GOES_WITHIN + self.late[process]
            assert any(not up and at <= within for at, up in reports), (process, within, reports)
            assert not [at for at, up in reports if up and at > within], (process, within, reports)

    async def told_up(self, back: float, within: float) -> None:
        """Each process says so in so many seconds after the server answers."""
        await asyncio.sleep(max(0.0, back + within - time.time()))
        for process, reports in self.since(back).items():
            assert any(up for _, up in reports), (process, reports)


async def health_of(stack: Stack, processes: Iterable[str]) -> dict[str, str]:
    """Where these processes say how they are."""
    return {process: f"http://{await stack.address(process)}:8000/health" for process in processes}


@asynccontextmanager
async def watching(health: Mapping[str, str], dependency: str) -> AsyncIterator[Watch]:
    """Ask these processes meanwhile; `health` tells where."""
    watch = Watch()
    asking = [
        work
        for process, url in health.items()
        for work in (watch.ask(process, url, dependency), watch.ask_alive(process, url))
    ]
    tasks = [asyncio.create_task(work) for work in asking]
    try:
        yield watch
        assert not [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def ended_at(stack: Stack, service: str) -> float:
    """When the process of a container that was stopped had ended, by the clock of this machine."""
    said = await stack.docker("inspect", "--format", "{{.State.FinishedAt}}", stack.container(service))
    return datetime.fromisoformat(said.strip()[:26] + "+00:00").timestamp()


async def answers_at(stack: Stack, service: str, port: int, path: str | None) -> float:
    """Wait until a server that was started answers, or takes connections where there is no page to ask for."""
    until = time.time() + 120
    url = await stack.address(service)
    while time.time() < until:
        if await _answers(url, port, path):
            return time.time()
        await asyncio.sleep(EVERY)
    raise AssertionError(f"{service} does not answer")


async def _answers(host: str, port: int, path: str | None) -> bool:
    try:
        if path is None:
            async with asyncio.timeout(1):
                _, writer = await asyncio.open_connection(host, port)
            writer.close()
            return True
        async with httpx.AsyncClient(timeout=1, trust_env=False) as client:
            return (await client.get(f"http://{host}:{port}{path}")).status_code < 300
    except (httpx.TransportError, OSError, TimeoutError):
        return False
