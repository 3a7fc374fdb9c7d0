"""F1 to F4: processes are killed, at random and at named places, restarted, and frozen."""

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from kgl_servicekit.failpoints import NAMES
from kgl_servicekit.testing.polling import eventually
from tests.faults.events_load import Mix
from tests.faults.stage import SOON, EventsFault, EventsStage, fault_class
from tests.faults.system import Process

LONGEST_END = 10.0


@fault_class
class KilledAtRandom(EventsFault):
    """The API or a worker, at any moment."""

    name = "F1"
    title = "kill -9 of API and workers at random"

    async def during(self, stage: EventsStage) -> None:
        processes: Sequence[Process] = [stage.system.api, *stage.system.workers]
        kills = 0
        async for _ in stage.rounds(every=1.0):
            await asyncio.sleep(stage.dice.uniform(0, 0.5))
            process = stage.dice.choice(processes)
            await process.kill()
            await process.start(ready=process is stage.system.api)
            await stage.healed()
            kills += 1
        stage.figures["kills"] = kills


@fault_class
class KilledAtNamedPlaces(EventsFault):
    """Both workers die again and again where it hurts most; `object.written` is a place of the five services alone."""

    name = "F2"
    title = "kill -9 at every named failpoint"
    mix = Mix(calls=0.05, trouble=("hiccups",), trouble_share=0.05)
    settings: ClassVar[dict[str, str]] = {"KGL_ATTEMPTS": "1000", "KGL_BACKOFF": "0.05"}
    places = tuple(name for name in NAMES if name != "object.written")
    seldom: ClassVar[dict[str, float]] = {"transaction.before": 0.05, "transaction.flushed": 0.05, "relay.read": 0.1}

    async def before(self, stage: EventsStage) -> None:
        stage.slowed = 0.15  # after a death, what it may have died of is taken one by one

    async def during(self, stage: EventsStage) -> None:
        stage.history.add("fault", "failpoints")
        wanted, seconds = (20, 120.0) if stage.times.long else (1, 20.0)
        deaths: dict[str, int] = {}
        for place in self._chosen(stage):
            before = _deaths(stage)
            await self._armed(stage, f"{place}:{self.seldom.get(place, 0.3)}")
            with contextlib.suppress(AssertionError):
                await eventually(partial(_died, stage, before + wanted), within=seconds)
            deaths[place] = _deaths(stage) - before
        await self._armed(stage, "")
        stage.figures["deaths"] = deaths
        if never := [place for place, count in deaths.items() if count == 0]:
            stage.findings.complain("F2", f"nobody died at {', '.join(never)}")

    def _chosen(self, stage: EventsStage) -> Sequence[str]:
        """All places; in a short run four of them, where each death takes long."""
        if stage.times.long or stage.system.takeover < SOON:
            return self.places
        return stage.dice.sample(self.places, 4)

    async def _armed(self, stage: EventsStage, failpoint: str) -> None:
        """Both workers begin anew, to die there."""
        for worker in stage.system.workers:
            worker.change(KGL_FAILPOINT=failpoint)
            await worker.kill()
            await worker.start(ready=False)


def _deaths(stage: EventsStage) -> int:
    return sum(worker.deaths for worker in stage.system.workers)


async def _died(stage: EventsStage, times: int) -> bool:
    return _deaths(stage) >= times


@fault_class
class RestartedInTurn(EventsFault):
    """SIGTERM, one after the other; every command is answered in the end, and no process takes long to go."""

    name = "F3"
    title = "rolling restart of API and workers"

    async def during(self, stage: EventsStage) -> None:
        processes: Sequence[Process] = [*stage.system.workers, stage.system.api]
        slowest = 0.0
        async for number in stage.rounds(every=0.5, at_least=len(processes)):
            process = processes[number % len(processes)]
            ended = await process.stop()
            await process.start()
            await stage.healed()
            slowest = max(slowest, ended.seconds)
            if ended.code != 0:
                stage.findings.complain("F3", f"{process.name} ended with {ended.code}")
        stage.figures["slowest_end_s"] = round(slowest, 2)
        if slowest > LONGEST_END:
            stage.findings.complain("F3", f"a process took {slowest:.0f} s to end")

    async def settled(self, stage: EventsStage) -> None:
        if failed := sum(1 for line in stage.history.lines if line.what in ("unknown", "fail")):
            stage.findings.complain("F3", f"{failed} commands failed")


@fault_class
class Frozen(EventsFault):
    """A worker stands still for longer than its leases, and goes on as if nothing had been: a zombie."""

    name = "F4"
    title = "SIGSTOP for longer than all leases, then SIGCONT"

    async def during(self, stage: EventsStage) -> None:
        seconds = 15.0 if stage.times.long else 7.0
        async for number in stage.rounds(every=seconds + 1):
            worker = stage.system.workers[number % len(stage.system.workers)]
            worker.pause()
            try:
                await asyncio.sleep(seconds)
            finally:
                worker.resume()
            await stage.healed()
