"""What the commands of both systems share: which classes are asked for, one after the other, and the status."""

import argparse
import random
import time
import traceback
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from pathlib import Path
from typing import TypeVar

from loguru import logger
from rich.console import Console

from kgl_servicekit.process import run
from tests.faults.report import Named, Row, report, told

F = TypeVar("F", bound=Named)
RunAsked = Callable[[argparse.Namespace, Console], Coroutine[None, None, list[Row]]]


async def one_by_one(
    classes: Mapping[str, Callable[[], F]],
    names: Collection[str],
    run_one: Callable[[F], Awaitable[Row]],
    console: Console,
) -> list[Row]:
    """The classes with these names, one after the other; one that cannot be run fails alone."""
    rows = []
    for name in (name for name in classes if name in names):
        fault = classes[name]()
        console.print(f"{fault.name:4} {fault.title} ... ", end="", highlight=False)
        began = time.monotonic()
        try:
            row = await run_one(fault)
        except Exception as error:
            traceback.print_exc()
            row = Row(fault.name, fault.title, 0, 0, 0, 0, 0, 0.0, (f"could not be run: {error!r}",))
        rows.append(row)
        told(row, time.monotonic() - began, console)
    return rows


def parser_of(prog: str, description: str | None, result: Path) -> argparse.ArgumentParser:
    """The options that both have."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--classes", nargs="*", default=None, help="such as F1 F7; all by default")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--long", action="store_true", help="100,000 events for each class")
    parser.add_argument("--rate", type=float, default=1000.0, help="events a second")
    parser.add_argument("--result", type=Path, default=result)
    return parser


def run_command(parser: argparse.ArgumentParser, names: Collection[str], run_asked: RunAsked) -> int:
    """Run what is asked for, and report it; the exit status."""
    asked = parser.parse_args()
    known = sorted(names, key=_number)
    asked.classes = asked.classes or known
    if strange := [name for name in asked.classes if name not in known]:
        parser.error(f"no class {', '.join(strange)}; there are {', '.join(known)}")
    asked.seed = random.randrange(10**6) if asked.seed is None else asked.seed
    console = Console(width=160)
    console.print(f"seed {asked.seed}", highlight=False)
    logger.remove()
    rows = run(run_asked(asked, console))
    rows.sort(key=lambda row: _number(row.fault))
    return 0 if report(rows, asked.result, asked.seed, console) else 1


def _number(name: str) -> int:
    return int(name[1:])
