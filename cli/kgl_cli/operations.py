"""`kgl operations`: receipts. Found, and what failed of one done again."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import typer
from rich.console import Console

from kgl_cli.asking import Target, ask
from kgl_client.api import Api
from kgl_servicekit.ids import uuid7

operations = typer.Typer(help="Receipts of accepted requests: do again what failed.", no_args_is_help=True)
console = Console()

BASE = "/operations/v1"
_PATIENCE = 10.0  # seconds within which a service that runs hears of it
_PAUSE = 0.2


@operations.command()
def retry(operation: UUID, target: Target = None) -> None:
    """Have the failed jobs of an operation done again; dead letters of it are redriven by `kgl dead-letters`."""

    async def work(api: Api) -> int:
        return _told(operation, *await retried(api, operation))

    ask(work, target)


async def retried(api: Api, operation: UUID) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The stages that had failed: those that are in their next run, and those that are as they were after a while."""
    before = await api.post(f"{BASE}/{operation}:retry", repeat_key=str(uuid7()))
    failed = {stage["name"]: stage["run"] for stage in before["stages"] if stage["state"] == "failed"}
    until = time.monotonic() + _PATIENCE
    while True:
        shown = (await api.get(f"{BASE}/{operation}"))["stages"]
        again = [stage for stage in shown if stage["run"] > failed.get(stage["name"], stage["run"])]
        if len(again) == len(failed) or time.monotonic() >= until:
            names = {stage["name"] for stage in again}
            return again, [stage for stage in shown if stage["name"] in failed.keys() - names]
        await asyncio.sleep(_PAUSE)


def _told(operation: UUID, again: Sequence[Mapping[str, Any]], left: Sequence[Mapping[str, Any]]) -> int:
    for stage in again:
        console.print(f"{stage['name']}: run {stage['run']}, {stage['state']}", soft_wrap=True)
    for stage in left:
        console.print(f"{stage['name']}: {stage['error'] or stage['state']}, not tried again so far", soft_wrap=True)
    if left:
        console.print(f"kgl dead-letters list operation={operation} has the events that failed", soft_wrap=True)
    return 0 if again else 1
