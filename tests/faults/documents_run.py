"""One class of faults on the five services, from the first document to the verdict."""

import asyncio
import contextlib
import random
import time
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from kgl_servicekit.testing.polling import eventually
from tests.faults.documents_checks import LONGEST, check_documents
from tests.faults.documents_load import DocumentsLoad
from tests.faults.documents_state import Stores
from tests.faults.history import History
from tests.faults.report import Row
from tests.faults.stage import Stage, Times
from tests.faults.system import DocumentsSystem
from tests.stack.watch import EVERY, Watch, watching

SLOWEST_NOTICE = 20.0
"""Seconds, far beyond the 2 and 5 that are promised of a machine that has nothing else to do; those are reported."""
OBJECTS_CONCERN = ("ingest-api", "ingest-worker", "graph-worker")
_ASKED_AT_ONCE = 8
S = TypeVar("S", bound=DocumentsSystem)


@dataclass(slots=True, kw_only=True)
class DocumentsStage(Stage, Generic[S]):
    """One class on the five services."""

    system: S
    load: DocumentsLoad

    async def healed(self) -> None:
        """The fault is over: seconds until a document that is sent now has gone through all, which are taken down."""
        self.history.add("heal")
        begun = time.monotonic()
        operation = await self.load.upload()
        if operation is not None:
            await self.load.ended(operation, self.times.recovery)
        self.recoveries.append(time.monotonic() - begun)

    def watching(self, processes: Iterable[str], dependency: str) -> AbstractAsyncContextManager[Watch]:
        """Ask these meanwhile how they are."""
        return watching({process: self.system.health(process) for process in processes}, dependency)

    async def told(self, watch: Watch, since: float, *, up: bool) -> None:
        """I12: seconds until all of these have said that what they need is there, or is not."""
        try:
            seconds = await eventually(lambda: _all_said(watch, since, up), within=SLOWEST_NOTICE, every=EVERY)
        except AssertionError:
            seconds = SLOWEST_NOTICE
            self.findings.complain("I12", f"not all say that it is {'up' if up else 'down'}", watch.since(since))
        name = "ready_s" if up else "unready_s"
        self.figures[name] = round(max(self.figures.get(name, 0.0), seconds), 2)


async def _all_said(watch: Watch, since: float, up: bool) -> float | None:
    """After how many seconds the last of them said so; None while one has not."""
    said = [[at for at, is_up in reports if is_up is up] for reports in watch.since(since).values()]
    return max(min(each) for each in said) if said and all(said) else None


class DocumentsFault(Generic[S]):
    """A class of faults on the `documents` workload. Whatever `during` breaks is whole again when it ends.

    `longest_upload` is how many seconds an upload may wait for its answer.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    longest_upload: ClassVar[float] = LONGEST

    async def during(self, stage: DocumentsStage[S]) -> None:
        """The faults, while documents come."""
        raise NotImplementedError


async def run_documents(
    fault: DocumentsFault[S], opening: AbstractAsyncContextManager[S], times: Times, seed: int, kept: Path
) -> Row:
    """Load as usual, faults, load until there was enough, rest, checks; the history is `kept` in this file."""
    began, history, dice = time.monotonic(), History(kept), random.Random(f"{seed}/{fault.name}/documents")
    async with opening as system:
        stores = await Stores.of(system)
        load = DocumentsLoad(system, history, dice)
        stage = DocumentsStage(system=system, load=load, history=history, dice=dice, times=times, began=began)
        await stage.under(load, fault.during(stage))
        quiet = time.monotonic()
        await _settle(stage, stores)
        caught_up = time.monotonic() - quiet
        state = await stores.collect()
        stage.findings.add(check_documents(history, state, fault.longest_upload))
        stage.figures["left_files"] = len(state.objects - state.files)
        await load.close()
    return stage.row(fault, caught_up=caught_up, documents=len(load.documents))


async def _settle(stage: DocumentsStage[S], stores: Stores) -> None:
    """Ask for each receipt until it has ended, as a client would, and wait until nothing is on its way any more."""
    accepted = [
        line.data["operation"] for line in stage.history.lines if line.what == "ok" and "operation" in line.data
    ]
    until, turn = time.monotonic() + stage.times.settle, asyncio.Semaphore(_ASKED_AT_ONCE)

    async def ended(operation: str) -> bool:
        async with turn:
            return await stage.load.ended(operation, max(0.1, until - time.monotonic()))

    if still := (await asyncio.gather(*map(ended, accepted))).count(False):
        stage.findings.complain("I7", f"{still} receipts have not ended {stage.times.settle:.0f} s after the load")
    with contextlib.suppress(AssertionError):
        await eventually(stores.quiet, within=30, every=0.3)
