"""What a class of faults is, and what it is given while it runs."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import asyncpg

from tests.faults.checks import check_events
from tests.faults.events_load import EventsLoad, Mix
from tests.faults.events_state import EventsState
from tests.faults.findings import Findings
from tests.faults.history import History
from tests.faults.system import EventsSystem

SLOWEST_RECOVERY = 60.0
SOON = 5.0
"""Seconds: where what a dead worker held is given away sooner, a class of seconds can have many deaths."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long a class runs (seconds): as usual, with faults, after them; `rate` events a second, `least` in all."""

    steady: float = 1.5
    faults: float = 6.0
    after: float = 1.0
    settle: float = 180.0
    rate: float = 1000.0
    least: int = 0
    long: bool = False


LONG = Times(steady=20.0, faults=65.0, after=15.0, settle=240.0, least=100_000, long=True)
"""100,000 events for each class."""


@dataclass(slots=True)
class Stage:
    """One class while it runs. `figures` are more keys of its line in the report; `slowed` is the share of the rate."""

    system: EventsSystem
    load: EventsLoad
    history: History
    dice: random.Random
    times: Times
    findings: Findings = field(default_factory=Findings)
    figures: dict[str, Any] = field(default_factory=dict)
    recoveries: list[float] = field(default_factory=list)
    slowed: float = 1.0

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
                    if now > mark or seconds > SLOWEST_RECOVERY:
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

    async def before(self, stage: Stage) -> None:
        """Before the load."""

    async def during(self, stage: Stage) -> None:
        """The faults, while the load goes on."""
        raise NotImplementedError

    async def settled(self, stage: Stage) -> None:
        """After the load, and after everything has come to rest; before the stores are read."""

    def injected(self) -> frozenset[str]:
        """Keys of records that came from no command, and have to be dead letters in the end."""
        return frozenset()

    def check(self, stage: Stage, state: EventsState) -> Findings:
        """What the history and the stores say."""
        return check_events(stage.history, state, mended=self.mended, injected=self.injected())


REGISTRY: dict[str, Callable[[], Any]] = {}


def fault_class(made: type[Any]) -> type[Any]:
    """Declare a class of faults, by its name in the table of docs/architecture/reliability.md."""
    if made.name in REGISTRY:
        raise ValueError(f"{made.name} is declared twice")
    REGISTRY[made.name] = made
    return made
