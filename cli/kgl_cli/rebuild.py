"""`kgl rebuild`: derived tables of a service are built anew while it works."""

from pathlib import Path

from rich.console import Console

from kgl_cli.home import Home
from kgl_cli.postgres import open_databases
from kgl_cli.stack import environment
from kgl_cli.stack.docker import Compose
from kgl_cli.system import BUILDERS
from kgl_cli.where import in_worker, service_of
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.events.rebuild import RebuildIncomplete, RebuildLost, RebuildRunning


async def rebuild(home: Home, folder: Path, console: Console, service: str, name: str, *, embedded: bool) -> int:
    """In the compose system of the folder, or in the running embedded one; 0 when it is done."""
    if service not in BUILDERS:
        console.print(f"[red]There is no service {service}; there are {', '.join(BUILDERS)}.[/red]")
        return 2
    path = environment.file_of(folder)
    if path.exists() and not embedded:
        return Compose(path).run(*in_worker(service, "rebuild", name))
    if home.running() is None:
        console.print(f"[red]A rebuild needs a system at work: there is no {path}, and no `make dev` runs here.[/red]")
        return 2
    databases = await open_databases(home)
    made = service_of(home, databases, service, "rebuild")
    names = made.rebuild_names
    if name not in names:
        console.print(f"[red]{service} has {', '.join(names) or 'nothing'} to rebuild.[/red]")
        return 2
    try:
        rebuilt = await made.rebuild(name)
    except (RebuildRunning, RebuildLost, RebuildIncomplete, Unavailable) as refused:
        console.print(f"[red]{refused}[/red]")
        return 1
    console.print(f"{service} {name}: {rebuilt.keys} keys")
    return 0
