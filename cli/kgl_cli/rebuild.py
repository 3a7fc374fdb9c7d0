"""`kgl rebuild`: derived tables of a service are built anew while it works."""

from pathlib import Path

from rich.console import Console

from kgl_cli.home import Home
from kgl_cli.system import BUILDERS
from kgl_cli.where import NoSystem, compose_of, databases_of, in_worker, service_of
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.events.rebuild import RebuildIncomplete, RebuildLost, RebuildRunning
from kgl_servicekit.service import Service


async def rebuild(home: Home, folder: Path, console: Console, service: str, name: str, *, embedded: bool) -> int:
    """In the compose system of the folder, or in the running embedded one; 0 when it is done."""
    if service not in BUILDERS:
        console.print(f"[red]There is no service {service}; there are {', '.join(BUILDERS)}.[/red]")
        return 2
    try:
        compose = compose_of(home, folder, embedded=embedded)
    except NoSystem as none:
        console.print(f"[red]{none}[/red]")
        return 2
    if compose is not None:
        return compose.run(*in_worker(service, "rebuild", name))
    if home.dev() is None:
        console.print(f"[red]A rebuild needs a system at work, and no kgl dev runs on {home.path}; `make dev`.[/red]")
        return 2
    async with databases_of(home) as databases:
        return await _embedded(service_of(home, databases, service, "rebuild"), console, name)


async def _embedded(service: Service, console: Console, name: str) -> int:
    names = service.rebuild_names
    if name not in names:
        console.print(f"[red]{service.name} has {', '.join(names) or 'nothing'} to rebuild.[/red]")
        return 2
    try:
        rebuilt = await service.rebuild(name)
    except (RebuildRunning, RebuildLost, RebuildIncomplete, Unavailable) as refused:
        console.print(f"[red]{refused}[/red]")
        return 1
    console.print(f"{service.name} {name}: {rebuilt.keys} keys")
    return 0
