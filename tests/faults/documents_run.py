"""One class of faults on the five services, from the first document to the verdict."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import httpx

from kgl_servicekit.testing.polling import eventually
from tests.faults import documents_state
from tests.faults.documents_checks import check_documents
from tests.faults.documents_load import DocumentsLoad
from tests.faults.documents_system import DocumentsSystem, documents_system
from tests.faults.embedded import EmbeddedSystem
from tests.faults.findings import Findings
from tests.faults.history import History
from tests.faults.processes import ManagedProcess
from tests.faults.report import Row
from tests.faults.stage import SLOWEST_RECOVERY, Times

HISTORIES = Path("build/faults")
RATE = 1.0
SLOWEST_NOTICE = 20.0
"""Seconds, far beyond the 2 and 5 that are promised of a machine that has nothing else to do; those are reported."""


@dataclass(slots=True)
class DocumentsStage:
    """One class while it runs."""

    system: DocumentsSystem
    load: DocumentsLoad
    history: History
    dice: random.Random
    times: Times
    findings: Findings = field(default_factory=Findings)
    figures: dict[str, Any] = field(default_factory=dict)
    recoveries: list[float] = field(default_factory=list)

    async def healed(self) -> None:
        """The fault is over: seconds until a document that is sent now has gone through all, which are taken down."""
        self.history.add("heal")
        begun = time.monotonic()
        operation = await self.load.upload()
        if operation is not None:
            await self.load.ended(operation, SLOWEST_RECOVERY)
        self.recoveries.append(time.monotonic() - begun)

    async def rounds(self, every: float, *, at_least: int = 1) -> AsyncIterator[int]:
        """Rounds of a fault until its time is over."""
        number, until = 0, time.monotonic() + self.times.faults
        while time.monotonic() < until or number < at_least:
            due = time.monotonic() + every
            self.history.add("fault", str(number))
            yield number
            number += 1
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        self.figures["rounds"] = number

    async def told(self, processes: Sequence[ManagedProcess], *, ready: bool) -> None:
        """I12: how long it takes until all of these say that they are ready, or that they are not."""
        begun = time.monotonic()
        try:
            await asyncio.gather(
                *(
                    eventually(partial(_says, process, ready), within=SLOWEST_NOTICE, every=0.1, what=process.name)
                    for process in processes
                )
            )
        except AssertionError as wrong:
            self.findings.complain("I12", f"readiness is not {ready}", str(wrong))
        name = "ready_s" if ready else "unready_s"
        self.figures[name] = round(max(self.figures.get(name, 0.0), time.monotonic() - begun), 2)


async def _says(process: ManagedProcess, ready: bool) -> bool:
    async with httpx.AsyncClient(trust_env=False, timeout=3) as http:
        with contextlib.suppress(httpx.TransportError):
            answer = await http.get(f"http://127.0.0.1:{process.port}/health/ready")
            return (answer.status_code == 200) == ready
    return False


class DocumentsFault:
    """A class of faults on the `documents` workload. Whatever `during` breaks is whole again when it ends."""

    name: ClassVar[str]
    title: ClassVar[str]
    s3: ClassVar[bool] = False

    async def during(self, stage: DocumentsStage) -> None:
        """The faults, while documents come."""
        raise NotImplementedError


async def run_documents(fault: DocumentsFault, system: EmbeddedSystem, times: Times, seed: int) -> Row:
    """Load as usual, faults, rest, checks."""
    began = time.monotonic()
    history = History(HISTORIES / f"{fault.name}-documents.jsonl")
    dice = random.Random(f"{seed}/{fault.name}/documents")
    async with documents_system(system, s3=fault.s3) as made:
        load = DocumentsLoad(made, history, dice)
        stage = DocumentsStage(made, load, history, dice, times)
        ending = asyncio.Event()
        driving = asyncio.create_task(load.drive(RATE, ending))
        try:
            await asyncio.sleep(times.steady / 2)
            await fault.during(stage)
            await stage.healed()
        finally:
            ending.set()
            await asyncio.gather(driving, return_exceptions=True)
        await driving
        quiet = time.monotonic()
        await _settle(stage)
        caught_up = time.monotonic() - quiet
        state = await documents_state.collect(made)
        stage.findings.add(check_documents(history, state, load.documents))
        stage.figures["left_files"] = len(state.objects - state.files)
        await load.close()
    recovery = max(stage.recoveries)
    if recovery > SLOWEST_RECOVERY:
        stage.findings.complain("I7", f"no document got through for {recovery:.0f} s after the fault")
    history.close()
    return Row.of(
        fault,
        stage.findings,
        recovery_s=round(recovery, 2),
        caught_up_s=round(caught_up, 2),
        seconds=round(time.monotonic() - began, 1),
        documents=len(load.documents),
        unknown=sum(1 for line in history.lines if line.what == "unknown"),
        **stage.figures,
    )


async def _settle(stage: DocumentsStage) -> None:
    """Ask for each receipt until it has ended, as a client would, and wait until nothing is on its way any more."""
    accepted = [
        line.data["operation"] for line in stage.history.lines if line.what == "ok" and "operation" in line.data
    ]
    until, turn = time.monotonic() + stage.times.settle, asyncio.Semaphore(4)

    async def ended(operation: str) -> str:
        async with turn:
            return await stage.load.ended(operation, max(0.1, until - time.monotonic()))

    states = await asyncio.gather(*map(ended, accepted))
    if still := states.count("running"):
        stage.findings.complain("I7", f"{still} receipts have not ended {stage.times.settle:.0f} s after the load")
    with contextlib.suppress(AssertionError):
        await eventually(partial(documents_state.quiet, stage.system), within=30, every=0.3)
