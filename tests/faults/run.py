"""One class of faults, from the first command to the verdict."""

import asyncio
import random
import time
from collections.abc import Coroutine
from typing import Any

from tests.faults import events_state, measures
from tests.faults.events_load import EventsLoad
from tests.faults.history import History
from tests.faults.report import Row
from tests.faults.stage import SLOWEST_RECOVERY, EventsFault, Stage, Times
from tests.faults.system import System


async def run_events(fault: EventsFault, system: System, times: Times, seed: int) -> Row:
    """Load as usual, faults, load after them, rest, checks."""
    began = time.monotonic()
    history = History(system.logs / f"{fault.name}.jsonl")
    dice = random.Random(f"{seed}/{fault.name}")
    async with system.events(settings=fault.settings, through_proxy=fault.through_proxy) as made:
        load = EventsLoad(made.url, history, dice, fault.mix)
        stage = Stage(made, load, history, dice, times)
        await fault.before(stage)
        ending = asyncio.Event()
        driving = asyncio.create_task(load.drive(times.rate * stage.slowed, ending))
        try:
            await asyncio.sleep(times.steady)
            before = measures.held([made.api, *made.workers])
            await _or_fails(fault.during(stage), driving)
            await stage.healed()
            await asyncio.sleep(times.after)
            load.least = times.least
        finally:
            ending.set()
            await asyncio.gather(driving, return_exceptions=True)
        await driving
        quiet = time.monotonic()
        if not await events_state.settle(made.dsn, times.settle, len(fault.injected())):
            stage.findings.complain("I7", f"not at rest {times.settle:.0f} s after the load")
        caught_up = time.monotonic() - quiet
        stage.figures |= await measures.delays(made.dsn, history)
        await fault.settled(stage)
        quiet_held = measures.held([made.api, *made.workers])
        stage.figures["memory_growth"] = measures.growth(before, quiet_held)
        for complaint in measures.left_over(before, quiet_held):
            stage.findings.complain("I13", complaint)
        state = await events_state.collect(made.dsn)
        stage.findings.add(fault.check(stage, state))
    recovery = max(stage.recoveries)
    if recovery > SLOWEST_RECOVERY:
        stage.findings.complain("I7", f"no progress for {recovery:.0f} s after the fault")
    history.close()
    return Row.of(
        fault,
        stage.findings,
        recovery_s=round(recovery, 2),
        caught_up_s=round(caught_up, 2),
        seconds=round(time.monotonic() - began, 1),
        commands=sum(1 for line in history.lines if line.what == "invoke"),
        unknown=sum(1 for line in history.lines if line.what == "unknown"),
        **stage.figures,
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
