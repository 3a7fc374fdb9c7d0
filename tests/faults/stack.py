"""`python -m tests.faults.stack`: the classes of faults on the compose system, which `make faults-stack` starts.

Those that the whole system meets come first, with documents through the edge. Then its own processes stand still,
and the small service meets the others on the same servers. KGL_HOME, KGL_ENV_FILE and KGL_TEST_SERVERS tell where the
system is, as for `tests/stack`. The exit status is that of `python -m tests.faults`.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tests.faults.classes import all_classes
from tests.faults.classes.documents_on_stack import STACK_DOCUMENTS_CLASSES, StackFault
from tests.faults.command import one_by_one, parser_of, run_command
from tests.faults.containers import resume_all
from tests.faults.documents_on_stack import documents_on_stack
from tests.faults.documents_run import run_documents
from tests.faults.on_stack import LOGS, on_stack
from tests.faults.report import Row
from tests.faults.run import run_events
from tests.faults.stage import LONG, Times
from tests.stack.harness import Stack

RESULT = Path("build/faults-stack.json")
DOCUMENTS = Times(steady=2.0, faults=3.0, after=0.0, settle=120.0, rate=2.0)
EVENTS_OF_A_COMMAND = 19
LONG_DOCUMENTS = Times(
    steady=10.0, faults=60.0, after=0.0, settle=900.0, recovery=900.0, rate=8.0, least=100_000 // EVENTS_OF_A_COMMAND
)


async def _run(asked: argparse.Namespace, console: Console) -> list[Row]:
    stack = Stack.running()
    await resume_all(stack)  # of an earlier run that was ended
    documents = LONG_DOCUMENTS if asked.long else DOCUMENTS

    async def on_documents(fault: StackFault) -> Row:
        kept = LOGS / f"{fault.name}.jsonl"
        return await run_documents(fault, documents_on_stack(stack), documents, asked.seed, kept)

    rows = await one_by_one(STACK_DOCUMENTS_CLASSES, asked.classes, on_documents, console)
    if small := [name for name in asked.classes if name not in STACK_DOCUMENTS_CLASSES]:
        times = replace(LONG if asked.long else Times(), rate=asked.rate)
        async with on_stack(stack) as system:
            rows += await one_by_one(
                all_classes(), small, lambda fault: run_events(fault, system, times, asked.seed), console
            )
    return rows


def main() -> int:
    """Run what is asked for."""
    parser = parser_of("python -m tests.faults.stack", __doc__, RESULT)
    return run_command(parser, {*all_classes(), *STACK_DOCUMENTS_CLASSES}, _run)


if __name__ == "__main__":
    sys.exit(main())
