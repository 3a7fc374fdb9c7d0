"""`python -m tests.faults`: classes of faults on the embedded system, and what they have done to it.

The exit status is 1 when anything was lost, doubled, out of order or wrongly made a dead letter, or when a check has
anything else against it.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tests.faults.classes import all_classes
from tests.faults.classes.documents import DOCUMENTS_CLASSES, EmbeddedFault
from tests.faults.command import one_by_one, parser_of, run_command
from tests.faults.documents_embedded import documents_embedded
from tests.faults.documents_run import run_documents
from tests.faults.embedded import LOGS, embedded
from tests.faults.report import Row
from tests.faults.run import run_events
from tests.faults.stage import LONG, Times

RESULT = Path("build/faults.json")


async def _run(asked: argparse.Namespace, console: Console) -> list[Row]:
    """On the small service; then those that are tried on the five services, too."""
    times = replace(LONG if asked.long else Times(), rate=asked.rate)
    if asked.seconds is not None:
        times = replace(times, faults=asked.seconds)
    slower = replace(times, steady=times.steady / 2, after=0.0, rate=1.0, least=0)
    async with embedded() as system:

        async def on_documents(fault: EmbeddedFault) -> Row:
            services, kept = documents_embedded(system, s3=fault.s3), LOGS / f"{fault.name}-documents.jsonl"
            return await run_documents(fault, services, slower, asked.seed, kept)

        rows = await one_by_one(
            all_classes(), asked.classes, lambda fault: run_events(fault, system, times, asked.seed), console
        )
        rows += await one_by_one(DOCUMENTS_CLASSES, asked.classes, on_documents, console)
    return rows


def main() -> int:
    """Run what is asked for."""
    parser = parser_of("python -m tests.faults", __doc__, RESULT)
    parser.add_argument("--seconds", type=float, default=None, help="of faults in each class")
    return run_command(parser, {*all_classes(), *DOCUMENTS_CLASSES}, _run)


if __name__ == "__main__":
    sys.exit(main())
