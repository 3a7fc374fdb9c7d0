"""One schedule: faults for a while, then quiet, then the checks."""

import asyncio
from dataclasses import dataclass, field

from tests.simulation.checks import Rest, look_at_holds, violations
from tests.simulation.determinism import determined
from tests.simulation.recording import Recording
from tests.simulation.scenarios import draw, heal
from tests.simulation.world import World

_FAULTY_STEPS = 220
_LONG_RACE = 1000
_MOST_STEPS = 4000
_QUIET_SECONDS = 120.0
_STILL = 0.1


@dataclass(slots=True)
class Result:
    """How a schedule went."""

    seed: int
    steps: int
    violations: list[str]
    trace: list[str] = field(default_factory=list)


def run_schedule(seed: int, *, trace: bool = False, recording: Recording | None = None) -> Result:
    """Run the schedule of a seed, which is always the same; with a recording, locks are given out in line."""
    world = World(seed, trace)
    if recording is not None:
        world.scheduler.in_line = True
        recording.watch(world.server)
    asyncio._set_running_loop(world.loop)
    try:
        with determined(seed, world.loop):
            try:
                found = _run(world)
            finally:
                world.bury()
    finally:
        asyncio._set_running_loop(None)
    return Result(seed, world.scheduler.steps, found, world.scheduler.trace or [])


def _run(world: World) -> list[str]:
    service = draw(world)
    held, rest = world.server.tables["held_event"], Rest(world, service)
    world.server.on_commit = lambda work: look_at_holds(world, service) if work.has_changed(held) else None
    scheduler, loop = world.scheduler, world.loop
    loop.run_ready()
    faulty = world.random.randrange(30, _FAULTY_STEPS)
    quiet_at: float | None = None
    done_at: float | None = None
    while scheduler.steps < _MOST_STEPS:
        if world.server.broken is not None:
            raise world.server.broken
        if quiet_at is None and scheduler.steps >= faulty and not (world.unfinished and scheduler.steps < _LONG_RACE):
            scheduler.note("", "QUIET from here on")
            heal(world)
            quiet_at = loop.now
            loop.run_ready()
        if scheduler.step():
            continue
        if world.history.violations:
            break
        if not any(question.held > scheduler.steps for question in scheduler.waiting):
            if rest.settled():
                faulty = 0
                if done_at is not None and loop.now > done_at + _STILL:
                    return violations(world, service)
                done_at = (done_at or loop.now) if quiet_at is not None else None
            else:
                done_at = None
        if not world.pass_time() and not scheduler.waiting:
            break
        if quiet_at is not None and loop.now > quiet_at + _QUIET_SECONDS:
            break
    return [*violations(world, service), "I1 it did not come to an end"]
