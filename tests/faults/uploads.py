"""A class of faults on the whole system, with documents coming through the edge meanwhile, up to the verdict."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from kgl_servicekit.testing.polling import eventually
from tests.faults.containers import ContainerServer
from tests.faults.findings import Findings
from tests.faults.history import History
from tests.faults.report import Row
from tests.faults.uploads_checks import check_uploads
from tests.faults.uploads_load import ENDED, UploadsLoad
from tests.faults.uploads_state import Stores
from tests.stack.harness import Stack
from tests.stack.watch import EVERY, Watch, answers_at, ended_at, watching

HISTORIES = Path("build/faults-stack")
SLOWEST_NOTICE = 20.0
"""Seconds, far beyond the 2 and 5 that `tests/stack` holds the processes to: what only a standstill exceeds."""
EVENTS_OF_A_DOCUMENT = 22
_ASKED_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class UploadTimes:
    """Seconds as usual, of each fault, and until all has ended; uploads a second, and how many at least."""

    steady: float = 2.0
    fault: float = 5.0
    settle: float = 120.0
    rate: float = 2.0
    least: int = 0


LONG_UPLOADS = UploadTimes(steady=10.0, fault=60.0, settle=900.0, rate=8.0, least=100_000 // EVENTS_OF_A_DOCUMENT)


@dataclass(slots=True)
class UploadsStage:
    """One class while it runs."""

    stack: Stack
    load: UploadsLoad
    history: History
    times: UploadTimes
    findings: Findings = field(default_factory=Findings)
    figures: dict[str, Any] = field(default_factory=dict)
    recoveries: list[float] = field(default_factory=list)

    async def away(self, server: str, dependency: str, concerned: Sequence[str], door: tuple[int, str | None]) -> None:
        """A server ends in good order, and is started again; I12: all that need it say so, both times."""
        self.history.add("fault", f"{server} is away")
        async with watching(self.stack, concerned, dependency) as watch:
            await self.stack.docker("stop", "--time", "10", self.stack.container(server))
            try:
                gone = await ended_at(self.stack, server)
                await self._noticed(watch, gone, server, up=False)
                await asyncio.sleep(max(0.0, gone + self.times.fault - time.time()))
            finally:
                await self.stack.docker("start", self.stack.container(server))
            back = await answers_at(self.stack, server, *door)
            await self._noticed(watch, back, server, up=True)
        await self.healed()

    async def frozen(self, server: str, seconds: float) -> None:
        """A server takes connections, and answers nothing."""
        self.history.add("fault", f"{server} is frozen")
        async with self._paused(server):
            await asyncio.sleep(seconds)
        await self.healed()

    async def slow(self, server: str, seconds: float, *, still: float = 0.4, alive: float = 0.1) -> None:
        """A server that gets to work a fifth of the time."""
        self.history.add("fault", f"{server} is slow")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            async with self._paused(server):
                await asyncio.sleep(still)
            await asyncio.sleep(alive)
        await self.healed()

    async def killed(self, server: str, door: tuple[int, str | None]) -> None:
        """A server ends with -9, and is started again."""
        self.history.add("fault", f"{server} is killed")
        await self.stack.docker("kill", self.stack.container(server))
        await self.stack.docker("start", self.stack.container(server))
        await answers_at(self.stack, server, *door)
        await self.healed()

    async def healed(self) -> None:
        """The fault is over: seconds until a document that is sent now has gone through all, which are taken down."""
        self.history.add("heal")
        begun = time.monotonic()
        async with self.stack.client() as http:
            operation = await self.load.upload(http)
            if operation is not None:
                with suppress(AssertionError):
                    await self.stack.ended(http, operation, within=self.times.settle)
        self.recoveries.append(time.monotonic() - begun)

    async def _noticed(self, watch: Watch, since: float, server: str, *, up: bool) -> None:
        """I12: seconds until all processes have said so, which are taken down."""
        name = "ready_s" if up else "unready_s"
        try:
            seconds = await eventually(lambda: _all_said(watch, since, up), within=SLOWEST_NOTICE, every=EVERY)
        except AssertionError:
            seconds = SLOWEST_NOTICE
            self.findings.complain("I12", f"not all say that {server} is {'up' if up else 'down'}", watch.since(since))
        self.figures[name] = round(max(self.figures.get(name, 0.0), seconds), 2)

    @asynccontextmanager
    async def _paused(self, server: str) -> AsyncIterator[None]:
        container = ContainerServer(self.stack, server, _always)
        await container.pause()
        try:
            yield
        finally:
            await container.resume()


async def _all_said(watch: Watch, since: float, up: bool) -> float | None:
    """After how many seconds the last of them said so; None while one has not."""
    said = [[at for at, is_up in reports if is_up is up] for reports in watch.since(since).values()]
    return max(min(each) for each in said) if said and all(said) else None


async def _always() -> bool:
    return True


class UploadsFault:
    """A class of faults. Whatever `during` breaks is whole again when it ends."""

    name: ClassVar[str]
    title: ClassVar[str]

    @asynccontextmanager
    async def around(self, stage: UploadsStage) -> AsyncIterator[None]:
        """What it needs besides, before the load, and takes away after it."""
        yield

    async def during(self, stage: UploadsStage) -> None:
        """The faults, while documents come."""
        raise NotImplementedError


async def run_uploads(fault: UploadsFault, stack: Stack, times: UploadTimes) -> Row:
    """Load as usual, faults, load until there was enough, rest, checks."""
    begun, history, stores = time.monotonic(), History(HISTORIES / f"{fault.name}.jsonl"), Stores(stack)
    load = UploadsLoad(stack, history)
    stage = UploadsStage(stack, load, history, times)
    before = await stores.events()
    async with fault.around(stage):
        ending = asyncio.Event()
        driving = asyncio.create_task(load.drive(times.rate, ending))
        try:
            await asyncio.sleep(times.steady)
            await fault.during(stage)
            await eventually(lambda: _enough(load, times.least), within=3600, every=1.0)
        finally:
            ending.set()
            await asyncio.gather(driving, return_exceptions=True)
        await driving
    quiet = time.monotonic()
    await _settle(stage)
    caught_up = time.monotonic() - quiet
    stage.findings.add(check_uploads(history, await stores.collect(load.mark)))
    findings = replace(stage.findings, events=await stores.events() - before)
    history.close()
    return Row.of(
        fault,
        findings,
        recovery_s=round(max(stage.recoveries), 2),
        caught_up_s=round(caught_up, 2),
        seconds=round(time.monotonic() - begun, 1),
        documents=sum(1 for line in history.lines if line.what == "ok" and "document" in line.data),
        unknown=sum(1 for line in history.lines if line.what == "unknown"),
        **stage.figures,
    )


async def _enough(load: UploadsLoad, least: int) -> bool:
    return sum(1 for line in load.history.lines if line.what == "ok" and "document" in line.data) >= least


async def _settle(stage: UploadsStage) -> None:
    """Ask for each receipt until it has ended, as a client would, and wait until nothing is on its way any more."""
    accepted = [
        line.data["operation"] for line in stage.history.lines if line.what == "ok" and "operation" in line.data
    ]
    stage.history.add("invoke", "receipts", kind="look")
    until = time.monotonic() + stage.times.settle
    turn = asyncio.Semaphore(_ASKED_AT_ONCE)
    async with stage.stack.client() as http:

        async def ended(operation: str) -> bool:
            async with turn:
                while time.monotonic() < until:
                    answer = await stage.load.ask(
                        http, "receipts", "GET", f"/operations/v1/{operation}", params={"wait": 5}
                    )
                    if answer is not None and answer.status_code == 200 and answer.json()["state"] in ENDED:
                        return True
                    await asyncio.sleep(0.2)
            return False

        open_still = [each for each in await asyncio.gather(*map(ended, accepted)) if not each]
    if open_still:
        stage.findings.complain(
            "I7", f"{len(open_still)} receipts have not ended {stage.times.settle:.0f} s after the load"
        )
    stores = Stores(stage.stack)

    async def quiet() -> bool:
        state = await stores.collect(stage.load.mark)
        return not state.pending and not any(letter[3] != "dead" for letter in state.held)

    with suppress(AssertionError):
        await eventually(quiet, within=30, every=0.5)
