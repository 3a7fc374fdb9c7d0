"""`kgl drift`: what is derived and is not what its source says, over all services, and its repair."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from kgl_cli.home import Home
from kgl_cli.stack.docker import Compose
from kgl_cli.system import BUILDERS
from kgl_cli.where import NoSystem, NotAnswered, compose_of, databases_of, service_of, told_by
from kgl_contracts.rights import SERVICES
from kgl_servicekit.drift.run import look_now
from kgl_servicekit.drift.table import DriftResult
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.settings import NotConfigured


async def drift(home: Home, folder: Path, console: Console, *, embedded: bool, repair: bool, json: bool) -> int:
    """Look in the compose system of the folder, or in the embedded one; 0 when nothing is left to be done, 1 else."""
    try:
        compose = compose_of(home, folder, embedded=embedded)
    except NoSystem as none:
        console.print(f"[red]{none}[/red]")
        return 2
    found = await (_embedded(home, repair) if compose is None else asyncio.to_thread(_compose, compose, repair))
    if json:
        console.out(orjson.dumps([result.as_dict() for result in found]).decode(), highlight=False)
    else:
        for line in (line for result in found for line in result.lines()):
            console.out(line, highlight=False)
    return 0 if all(result.well for result in found) else 1


def _compose(compose: Compose, repair: bool) -> list[DriftResult]:
    """In a container of each service's image, with the settings of its worker."""
    found: list[DriftResult] = []
    words = ["drift", "--json", *(["--repair"] if repair else [])]
    for service in SERVICES:
        try:
            found += told_by(compose, service, *words, of=_result, seconds=3600)
        except NotAnswered as silent:
            found.append(DriftResult(check=service, error=str(silent)))
    return found


def _result(*, examples: Sequence[str] = (), **told: Any) -> DriftResult:
    return DriftResult(examples=tuple(examples), **told)


async def _embedded(home: Home, repair: bool) -> list[DriftResult]:
    """On the databases of this home; what is told by events needs a running `kgl dev`."""
    found: list[DriftResult] = []
    async with databases_of(home) as databases:
        for name in BUILDERS:
            try:
                found += await look_now(service_of(home, databases, name, "drift"), repair=repair)
            except (NotConfigured, Unavailable) as wrong:
                found.append(DriftResult(check=name, error=str(wrong)))
    return found
