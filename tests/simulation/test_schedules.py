"""A few hundred schedules in each test run, and those that found something; `make simulate` runs thousands."""

import os
import subprocess
import sys
from pathlib import Path

from tests.simulation.run import run_schedule

ROOT = Path(__file__).parents[2]


def _simulate(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_schedules_that_found_something_stay_well() -> None:
    ended = _simulate("--known", "--processes", "1")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_some_schedules_hold_all_that_is_promised() -> None:
    ended = _simulate("--processes", "1", "--schedules", "500", "--seconds", "10")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert int(ended.stdout.split()[0]) >= 10, ended.stdout


def test_each_fault_happens_and_each_race_is_set_up() -> None:
    seeds = [*range(50), *range(53, 300, 8)]
    told = "\n".join(line for seed in seeds for line in run_schedule(seed, trace=True).trace)
    faults = ("KILLED", "FROZEN", "DIED", "OUT", "FORGOT", "divides the partitions anew", "lost before", "answer lost")
    races = ("unread", "noted_late", "restarted", "reading", "uncounted", "refilled", "restored")
    happened = ("'gap'", "FROZEN until a refill", "is back, with less", *(f"made for: {race}" for race in races))
    assert [word for word in (*faults, *happened) if word not in told] == []


def test_a_seed_is_one_schedule() -> None:
    first, second = _simulate("--seed", "7"), _simulate("--seed", "7")
    assert first.returncode == 0, first.stdout + first.stderr
    assert first.stdout == second.stdout
    assert "update consumer_position" in first.stdout
