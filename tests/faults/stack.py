"""`python -m tests.faults.stack`: the classes of faults on the compose system, which `make faults-stack` starts.

Those that the whole system meets come first, with documents through the edge. Then its own processes stand still,
and the small service meets the others on the same servers. KGL_HOME, KGL_ENV_FILE and KGL_TEST_SERVERS tell where the
system is, as for `tests/stack`. The exit status is that of `python -m tests.faults`.
"""

import argparse
import random
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from loguru import logger
from rich.console import Console

from kgl_servicekit.process import run
from tests.faults.__main__ import run_all
from tests.faults.classes import all_classes
from tests.faults.containers import resume_all
from tests.faults.on_stack import on_stack
from tests.faults.report import Row, report, told
from tests.faults.stage import LONG, Times
from tests.faults.uploads import LONG_UPLOADS, UploadTimes, run_uploads
from tests.faults.uploads_classes import UPLOADS_CLASSES
from tests.stack.harness import Stack

RESULT = Path("build/faults-stack.json")
SHORT = Times(steady=1.5, faults=6.0, after=1.0, settle=180.0)


async def _uploads(stack: Stack, names: Sequence[str], times: UploadTimes, console: Console) -> list[Row]:
    """One class after the other; one that cannot be run fails alone."""
    rows = []
    for name in names:
        fault = UPLOADS_CLASSES[name]()
        console.print(f"{name:4} {fault.title} ... ", end="", highlight=False)
        try:
            row = await run_uploads(fault, stack, times)
        except Exception as error:
            traceback.print_exc()
            row = Row(name, fault.title, 0, 0, 0, 0, 0, 0.0, (f"could not be run: {error!r}",))
        rows.append(row)
        told(row, row.more.get("seconds", 0.0), console)
    return rows


async def _main(asked: argparse.Namespace, console: Console) -> bool:
    stack = Stack.running()
    await resume_all(stack)  # of an earlier run that was ended
    whole = [name for name in asked.classes if name in UPLOADS_CLASSES]
    small = [name for name in asked.classes if name not in UPLOADS_CLASSES]
    rows = await _uploads(stack, whole, LONG_UPLOADS if asked.long else UploadTimes(), console)
    if small:
        times = replace(LONG if asked.long else SHORT, rate=asked.rate)
        async with on_stack(stack) as system:
            rows += await run_all(system, small, times, asked.seed, console)
    rows.sort(key=lambda row: int(row.fault[1:]))
    return report(rows, asked.result, asked.seed, console)


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.on_stack", description=__doc__)
    parser.add_argument("--classes", nargs="*", default=None, help="such as F1 F7; all by default")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--long", action="store_true", help="100,000 events for each class")
    parser.add_argument("--rate", type=float, default=1000.0, help="events a second")
    parser.add_argument("--result", type=Path, default=RESULT)
    asked = parser.parse_args()
    known = sorted({*all_classes(), *UPLOADS_CLASSES}, key=lambda name: int(name[1:]))
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
