"""`python -m tests.faults`: classes of faults on the embedded system, and what they have done to it.

The exit status is 1 when anything was lost, doubled, out of order or wrongly made a dead letter, or when a check has
anything else against it.
"""

import argparse
import random
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from loguru import logger
from rich.console import Console

from kgl_servicekit.process import run
from tests.faults.classes import all_classes
from tests.faults.classes.documents import DOCUMENTS_CLASSES
from tests.faults.documents_run import run_documents
from tests.faults.embedded import EmbeddedSystem, embedded
from tests.faults.report import Row, report, told
from tests.faults.run import run_events
from tests.faults.stage import LONG, Times
from tests.faults.system import System

RESULT = Path("build/faults.json")


async def run_all(system: System, names: Sequence[str], times: Times, seed: int, console: Console) -> list[Row]:
    """One class after the other; one that cannot be run fails alone."""
    rows = []
    for name in names:
        fault = all_classes()[name]()
        console.print(f"{fault.name:4} {fault.title} ... ", end="", highlight=False)
        began = time.monotonic()
        try:
            row = await run_events(fault, system, times, seed)
        except Exception as error:
            traceback.print_exc()
            row = Row(fault.name, fault.title, 0, 0, 0, 0, 0, 0.0, (f"could not be run: {error!r}",))
        rows.append(row)
        told(row, time.monotonic() - began, console)
    return rows


async def run_on_services(
    system: EmbeddedSystem, names: Sequence[str], times: Times, seed: int, console: Console
) -> list[Row]:
    """The classes that are tried on the five services, too."""
    rows = []
    for name in (name for name in DOCUMENTS_CLASSES if name in names):
        fault = DOCUMENTS_CLASSES[name]()
        console.print(f"{name:4} {fault.title} ... ", end="", highlight=False)
        began = time.monotonic()
        try:
            row = await run_documents(fault, system, times, seed)
        except Exception as error:
            traceback.print_exc()
            row = Row(name, fault.title, 0, 0, 0, 0, 0, 0.0, (f"could not be run: {error!r}",))
        rows.append(row)
        told(row, time.monotonic() - began, console)
    return rows


async def _main(asked: argparse.Namespace, console: Console) -> bool:
    times = replace(LONG if asked.long else Times(), rate=asked.rate)
    if asked.seconds is not None:
        times = replace(times, faults=asked.seconds)
    async with embedded() as system:
        small = [name for name in asked.classes if name in all_classes()]
        rows = await run_all(system, small, times, asked.seed, console)
        rows += await run_on_services(system, asked.classes, times, asked.seed, console)
    rows.sort(key=lambda row: int(row.fault[1:]))
    return report(rows, asked.result, asked.seed, console)


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--classes", nargs="*", default=None, help="such as F1 F7; all by default")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--long", action="store_true", help="100,000 events for each class")
    parser.add_argument("--rate", type=float, default=1000.0, help="events a second")
    parser.add_argument("--seconds", type=float, default=None, help="of faults in each class")
    parser.add_argument("--result", type=Path, default=RESULT)
    asked = parser.parse_args()
    known = sorted({*all_classes(), *DOCUMENTS_CLASSES}, key=lambda name: int(name[1:]))
    asked.classes = asked.classes or known
    if strange := [name for name in asked.classes if name not in known]:
        parser.error(f"no class {', '.join(strange)}; there are {', '.join(known)}")
    asked.seed = random.randrange(10**6) if asked.seed is None else asked.seed
    console = Console(width=160)
    console.print(f"seed {asked.seed}", highlight=False)
    logger.remove()
    return 0 if run(_main(asked, console)) else 1


if __name__ == "__main__":
    sys.exit(main())
