"""`python -m tests.simulation`: many schedules on all cores; `--seed N` replays one, with its trace.

Every violation is printed with its seed; the exit status is 1 if there is one, and 2 if the simulation itself fails,
as for a statement that it does not understand. Sets of strings have another order in each Python process, and the
kit iterates over some: so the seed of hashes is fixed first.
"""

import argparse
import gc
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from loguru import logger

SEEDS = Path(__file__).parent / "seeds.txt"
_CHUNK = 20
_began: list[float] = []  # when this process began its first schedules


def known_seeds() -> list[int]:
    """The seeds that have found something, each with a comment that says what."""
    lines = (line.partition("#")[0].strip() for line in SEEDS.read_text().splitlines())
    return [int(line) for line in lines if line]


def run_some(seeds: Sequence[int], seconds: float, fail_fast: bool) -> tuple[int, int, list[tuple[int, list[str]]]]:
    """Run these schedules, as far as the time goes; how many, the steps that they took, and what was violated."""
    from tests.simulation.run import run_schedule

    logger.remove()
    gc.collect()
    gc.freeze()
    gc.disable()
    _began.append(time.monotonic())
    schedules, steps, found = 0, 0, []
    for seed in seeds:
        if time.monotonic() > _began[0] + seconds:
            break
        schedules += 1
        result = run_schedule(seed)
        steps += result.steps
        if result.violations:
            found.append((seed, result.violations))
            if fail_fast:
                break
    gc.enable()
    return schedules, steps, found


def _chunks(seeds: Sequence[int]) -> Iterator[Sequence[int]]:
    for first in range(0, len(seeds), _CHUNK):
        yield seeds[first : first + _CHUNK]


def run_many(seeds: Sequence[int], processes: int, seconds: float, *, fail_fast: bool) -> int:
    """Run schedules until they are done or the time is over; prints what was found. The answer is the exit status."""
    begin, schedules, steps, bad = time.monotonic(), 0, 0, 0
    run = partial(run_some, seconds=seconds, fail_fast=fail_fast)
    with ProcessPoolExecutor(processes) as pool:
        for ran, more, found in pool.map(run, _chunks(seeds)):
            schedules, steps, bad = schedules + ran, steps + more, bad + len(found)
            for seed, violations in found:
                print(
                    f"seed {seed}: {violations[0]}" + (f" (and {len(violations) - 1} more)" if violations[1:] else "")
                )
            if found and fail_fast:
                pool.shutdown(wait=False, cancel_futures=True)
                break
    took = time.monotonic() - begin
    print(f"{schedules} schedules, {steps} steps, {bad} with violations, from seed {seeds[0]}, in {took:.0f} s")
    return 1 if bad else 0


def replay(seed: int) -> int:
    """Run one schedule, and print all that happened."""
    from tests.simulation.run import run_schedule

    logger.remove()
    result = run_schedule(seed, trace=True)
    print("\n".join(result.trace))
    print(f"seed {seed}: {result.steps} steps")
    for violation in result.violations:
        print(f"VIOLATED {violation}")
    return 1 if result.violations else 0


def main() -> int:
    """See the module."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    parser = argparse.ArgumentParser(prog="simulate", description="The core under a seeded scheduler.")
    parser.add_argument("--seed", type=int, help="replay this schedule, with its trace")
    parser.add_argument("--base", type=int, default=1_000_000, help="the first seed")
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=3600, help="begin no schedules after this time")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--known", action="store_true", help="run the seeds that have found something before")
    parser.add_argument("--fail-fast", action="store_true")
    given = parser.parse_args()
    seeds = known_seeds() if given.known else [*range(given.base, given.base + given.schedules)]
    try:
        if given.seed is not None:
            return replay(given.seed)
        return run_many(seeds, given.processes, given.seconds, fail_fast=given.fail_fast)
    except Exception:
        traceback.print_exc()
        return 2


if __name__ == "__main__":
    sys.exit(main())
