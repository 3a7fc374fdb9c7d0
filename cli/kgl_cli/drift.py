"""`kgl drift`: what is derived and is not what its source says, over all services, and its repair."""

import asyncio
from dataclasses import replace
from pathlib import Path

import orjson
from rich.console import Console

from kgl_cli.home import Home
from kgl_cli.postgres import open_databases, stop_server
from kgl_cli.stack import environment
from kgl_cli.stack.docker import Compose
from kgl_cli.system import BUILDERS, built
from kgl_contracts.rights import SERVICES
from kgl_servicekit.bus.postgres import PostgresBus
from kgl_servicekit.drift.run import look_now
from kgl_servicekit.drift.table import DriftResult
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.settings import NotConfigured


async def drift(home: Home, folder: Path, console: Console, *, embedded: bool, repair: bool, json: bool) -> int:
    """Look in the compose system of the folder, or in the embedded one; 0 when nothing is left to be done, 1 else."""
    path = environment.file_of(folder)
    if path.exists() and not embedded:
        found = await asyncio.to_thread(_compose, Compose(path), repair)
    elif home.has_system():
        found = await _embedded(home, repair)
    else:
        console.print(f"[red]There is neither {path} of `make up` nor a system of `make dev` in {home.path}.[/red]")
        return 2
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
        status, answer, said = compose.tried(
            "run", "--rm", "--no-deps", "-T", f"{service}-worker", *words, seconds=3600
        )
        try:
            rows = [DriftResult(**row) for row in orjson.loads(answer)]
            found += [replace(row, examples=tuple(row.examples)) for row in rows]
        except (orjson.JSONDecodeError, TypeError):
            last = next(iter(reversed(said.strip().splitlines())), f"it ended with status {status}")
            found.append(DriftResult(check=service, error=last))
    return found


async def _embedded(home: Home, repair: bool) -> list[DriftResult]:
    """On the databases of this home; what is told by events needs a running `kgl dev`."""
    runs = home.running() is not None
    found: list[DriftResult] = []
    databases = await open_databases(home)
    try:
        for name in BUILDERS:
            bus = PostgresBus(databases.service("kgl_bus"), worker="drift")
            try:
                found += await look_now(built(name, home, databases, bus, "http://localhost:8080"), repair=repair)
            except (NotConfigured, Unavailable) as wrong:
                found.append(DriftResult(check=name, error=str(wrong)))
    finally:
        if not runs:
            await asyncio.to_thread(stop_server, home)
    return found
