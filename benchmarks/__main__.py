"""`make bench`: every figure, as a table and as build/bench.json; exit status 1 if one does not hold.

`python -m benchmarks hop http` measures these parts alone. `make bench-stack` measures those of the compose system,
and writes build/bench-stack.json.
"""

import importlib
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.harness import Result, report, table
from kgl_servicekit.process import run

PARTS = ("hop", "relay", "command", "http", "permission", "ingest", "dev")
STACK_PARTS = ("stack", "stack_hop", "stack_edge", "stack_files")
OUTPUT = Path("build/bench.json")
STACK_OUTPUT = Path("build/bench-stack.json")


async def _measure(parts: list[str], console: Console) -> list[Result]:
    results: list[Result] = []
    for part in parts:
        console.print(f"measuring {part} ...")
        measured = await importlib.import_module(f"benchmarks.{part}").measure()
        console.print(table(measured))
        results += measured
    return results


def main() -> int:
    """Measure and report."""
    console = Console(width=160)
    parts = sys.argv[1:] or list(PARTS)
    results = run(_measure(parts, console))
    return 0 if report(results, STACK_OUTPUT if set(parts) <= set(STACK_PARTS) else OUTPUT) else 1


if __name__ == "__main__":
    sys.exit(main())
