"""What a class of faults is, and what it is given while it runs."""

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import asyncpg

from tests.faults.checks import check_events
from tests.faults.events_load import EventsLoad, Mix
from tests.faults.events_state import EventsState
from tests.faults.findings import Findings
from tests.faults.history import History
from tests.faults.report import Named, Row
from tests.faults.system import EventsSystem

SOON = 5.0
"""Seconds: where what a dead worker held is given away sooner, a class of seconds can have many deaths."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long a class runs (seconds): as usual, with faults, after them, until all is at rest, without progress.

    `rate` is of events a second, or commands about documents, `least` how many in all.
    """

    steady: float = 1.5
    faults: float = 6.0
    after: float = 1.0
    settle: float = 180.0
    recovery: float = 60.0
    rate: float = 1000.0
    least: int = 0
    long: bool = False


LONG = Times(steady=20.0, faults=65.0, after=15.0, settle=240.0, least=100_000, long=True)
"""100,000 events for each class."""


class Load(Protocol):
    """Clients that send until they are told to end, and have sent `least`."""

    least: int

    async def drive(self, rate: float, until: asyncio.Event) -> None: ...


@dataclass(slots=True, kw_only=True)
class Stage(ABC):
    """One class while it runs. `figures` are more keys of its line in the report; `slowed` is the share of the rate."""

    history: History
    dice: random.Random
    times: Times
    findings: Findings = field(default_factory=Findings)
    figures: dict[str, Any] = field(default_factory=dict)
    recoveries: list[float] = field(default_factory=list)
    slowed: float = 1.0
    began: float = field(default_factory=time.monotonic)

    @abstractmethod
    async def healed(self) -> object:
        """The fault is over: wait for progress; the seconds until then are taken down."""

    async def rounds(self, every: float, *, at_least: int = 1) -> AsyncIterator[int]:
        """Rounds of a fault until its time is over, each begun `every` seconds after the last one, or at its end."""
        number = 0
        until = time.monotonic() + self.times.faults
        while time.monotonic() < until or number < at_least:
            due = time.monotonic() + every
            self.history.add("fault", str(number))
            yield number
            number += 1
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        self.figures["rounds"] = number

    async def under(self, load: Load, faults: Coroutine[Any, Any, None]) -> None:
        """Load as usual, the faults, load after them, and until there was enough."""
        ending = asyncio.Event()
        driving = asyncio.create_task(load.drive(self.times.rate * self.slowed, ending))
        try:
            await asyncio.sleep(self.times.steady)
            await _or_fails(faults, driving)
            await self.healed()
            await asyncio.sleep(self.times.after)
            load.least = self.times.least
        finally:
            ending.set()
            await asyncio.gather(driving, return_exceptions=True)
        await driving

    def row(self, fault: Named, *, caught_up: float, **more: Any) -> Row:
        """Its line in the report; I7: work has gone on by itself, soon."""
        recovery = max(self.recoveries)
        if recovery > self.times.recovery:
            self.findings.complain("I7", f"no progress for {recovery:.0f} s after the fault")
        self.history.close()
        return Row.of(
            fault,
            self.findings,
            recovery_s=round(recovery, 2),
            caught_up_s=round(caught_up, 2),
            seconds=round(time.monotonic() - self.began, 1),
            **more,
            unknown=sum(1 for line in self.history.lines if line.what == "unknown"),
            **self.figures,
        )


async def _or_fails(work: Coroutine[Any, Any, None], driving: asyncio.Task[None]) -> None:
    """Wait for the faults; a load that ends before them has failed, and so does this."""
    task = asyncio.create_task(work)
    done, _ = await asyncio.wait({task, driving}, return_when=asyncio.FIRST_COMPLETED)
    if driving in done:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await driving
    await task


@dataclass(slots=True, kw_only=True)
class EventsStage(Stage):
    """One class on the small service."""

    system: EventsSystem
    load: EventsLoad

    async def healed(self) -> float:
        """The fault is over: seconds until the next effect, which are taken down."""
        began = time.monotonic()
        self.history.add("heal")
        mark: int | None = None
        while True:
            try:
                connection = await asyncpg.connect(self.system.dsn, timeout=5)
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.02)
                continue
            try:
                while True:
                    now = int(await connection.fetchval("select coalesce(max(id), 0) from effect"))
                    mark = now if mark is None else mark
                    seconds = time.monotonic() - began
                    if now > mark or seconds > self.times.recovery:
                        self.recoveries.append(seconds)
                        return seconds
                    await asyncio.sleep(0.02)
            finally:
                await connection.close()

    async def sql(self, statement: str, *args: Any) -> list[asyncpg.Record]:
        """One statement on the service's database, as a superuser."""
        connection = await asyncpg.connect(self.system.dsn)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *args)
            return rows
        finally:
            await connection.close()


class EventsFault:
    """A class of faults on the `events` workload. Whatever `during` breaks is whole again when it ends."""

    name: ClassVar[str]
    title: ClassVar[str]
    mix: ClassVar[Mix] = Mix(calls=0.02)
    settings: ClassVar[Mapping[str, str]] = {}
    through_proxy: ClassVar[bool] = False
    mended: ClassVar[bool] = False

    async def before(self, stage: EventsStage) -> None:
        """Before the load."""

    async def during(self, stage: EventsStage) -> None:
        """The faults, while the load goes on."""
        raise NotImplementedError

    async def settled(self, stage: EventsStage) -> None:
        """After the load, and after everything has come to rest; before the stores are read."""

    def injected(self) -> frozenset[str]:
        """Keys of records that came from no command, and have to be dead letters in the end."""
        return frozenset()

    def check(self, stage: EventsStage, state: EventsState) -> Findings:
        """What the history and the stores say."""
        return check_events(stage.history, state, mended=self.mended, injected=self.injected())


REGISTRY: dict[str, Callable[[], Any]] = {}


def fault_class(made: type[Any]) -> type[Any]:
    """Declare a class of faults, by its name in the table of docs/architecture/reliability.md."""
    if made.name in REGISTRY:
        raise ValueError(f"{made.name} is declared twice")
    REGISTRY[made.name] = made
    return made
