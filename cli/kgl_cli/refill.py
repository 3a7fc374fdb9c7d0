"""`kgl refill`: the bus has lost events, and gets them again from the outboxes of all services."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from kgl_cli.home import Home
from kgl_cli.postgres import open_databases, stop_server
from kgl_cli.stack import environment
from kgl_cli.stack.docker import Compose
from kgl_cli.system import BUILDERS, built
from kgl_contracts.rights import SERVICES, written_by
from kgl_contracts.topics import BY_NAME
from kgl_servicekit.bus.postgres import PostgresBus
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.settings import NotConfigured


async def refill(home: Home, folder: Path, console: Console, topics: Sequence[str], *, embedded: bool) -> int:
    """Refill the compose system of the folder, or the embedded one; 0 when every service did.

    Without topics it is those that the bus has lost.
    """
    if unknown := sorted(set(topics).difference(BY_NAME)):
        console.print(f"[red]There is no topic {', '.join(unknown)}; there are {', '.join(BY_NAME)}.[/red]")
        return 2
    path = environment.file_of(folder)
    if path.exists() and not embedded:
        return _compose(Compose(path), topics)
    if not home.has_system():
        console.print(f"[red]There is neither {path} of `make up` nor a system of `make dev` in {home.path}.[/red]")
        return 2
    try:
        return await _embedded(home, console, topics)
    except (NotConfigured, Unavailable) as failed:
        console.print(f"[red]{failed}[/red]")
        return 1


def _of(service: str, topics: Sequence[str]) -> list[str] | None:
    """The topics that the service has to send again; None when it has none of those that were asked for."""
    own = [topic.name for topic in written_by(service) if topic.name in topics]
    return own if own or not topics else None


def _compose(compose: Compose, topics: Sequence[str]) -> int:
    """In a container of each service's image, with the settings of its worker."""
    statuses = [
        compose.run("run", "--rm", "--no-deps", "-T", f"{service}-worker", "refill", *own)
        for service in SERVICES
        if (own := _of(service, topics)) is not None
    ]
    return max(statuses)


async def _embedded(home: Home, console: Console, topics: Sequence[str]) -> int:
    """On the databases of this home, whether `kgl dev` runs or not."""
    runs = home.running() is not None
    databases = await open_databases(home)
    try:
        bus = PostgresBus(databases.service("kgl_bus"), worker="refill")
        for name in BUILDERS:
            if (own := _of(name, topics)) is None:
                continue
            refilled = await built(name, home, databases, bus, "http://localhost:8080").refill(own)
            told = f"{refilled.events} events of {', '.join(refilled.topics)} leave again"
            console.print(f"{name}: {told if refilled.topics else 'nothing is lost'}")
    finally:
        if not runs:
            await asyncio.to_thread(stop_server, home)
    return 0
