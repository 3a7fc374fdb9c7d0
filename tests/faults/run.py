"""One class of faults, from the first command to the verdict."""

import random
import time

from tests.faults import events_state, measures
from tests.faults.events_load import EventsLoad
from tests.faults.history import History
from tests.faults.report import Row
from tests.faults.stage import EventsFault, EventsStage, Times
from tests.faults.system import System


async def run_events(fault: EventsFault, system: System, times: Times, seed: int) -> Row:
    """Load as usual, faults, load after them, rest, checks."""
    began = time.monotonic()
    history = History(system.logs / f"{fault.name}.jsonl")
    dice = random.Random(f"{seed}/{fault.name}")
    async with system.events(settings=fault.settings, through_proxy=fault.through_proxy) as made:
        load = EventsLoad(made.url, history, dice, fault.mix)
        stage = EventsStage(system=made, load=load, history=history, dice=dice, times=times, began=began)
        await fault.before(stage)
        processes, before = [made.api, *made.workers], measures.Held()

        async def faults() -> None:
            before.update(measures.held(processes))
            await fault.during(stage)

        await stage.under(load, faults())
        quiet = time.monotonic()
        if not await events_state.settle(made.dsn, times.settle, len(fault.injected())):
            stage.findings.complain("I7", f"not at rest {times.settle:.0f} s after the load")
        caught_up = time.monotonic() - quiet
        stage.figures |= await measures.delays(made.dsn, history)
        await fault.settled(stage)
        at_rest = measures.held(processes)
        stage.figures["memory_growth"] = measures.growth(before, at_rest)
        for complaint in measures.left_over(before, at_rest):
            stage.findings.complain("I13", complaint)
        state = await events_state.collect(made.dsn)
        stage.findings.add(fault.check(stage, state))
    commands = sum(1 for line in history.lines if line.what == "invoke")
    return stage.row(fault, caught_up=caught_up, commands=commands)
