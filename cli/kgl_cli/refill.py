"""`kgl refill`: the bus has lost events, and gets them again from the outboxes of all services."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from kgl_cli.home import Home
from kgl_cli.stack.docker import Compose
from kgl_cli.system import BUILDERS
from kgl_cli.where import NoSystem, compose_of, databases_of, in_worker, service_of
from kgl_contracts.rights import SERVICES, written_by
from kgl_contracts.topics import BY_NAME
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.settings import NotConfigured


async def refill(home: Home, folder: Path, console: Console, topics: Sequence[str], *, embedded: bool) -> int:
    """Refill the compose system of the folder, or the embedded one; 0 when every service did.

    Without topics it is those that the bus has lost.
    """
    if unknown := sorted(set(topics).difference(BY_NAME)):
        console.print(f"[red]There is no topic {', '.join(unknown)}; there are {', '.join(BY_NAME)}.[/red]")
        return 2
    try:
        compose = compose_of(home, folder, embedded=embedded)
        return await _embedded(home, console, topics) if compose is None else _compose(compose, topics)
    except NoSystem as none:
        console.print(f"[red]{none}[/red]")
        return 2
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
        compose.run(*in_worker(service, "refill", *own))
        for service in SERVICES
        if (own := _of(service, topics)) is not None
    ]
    return max(statuses)


async def _embedded(home: Home, console: Console, topics: Sequence[str]) -> int:
    """On the databases of this home, whether `kgl dev` runs or not."""
    async with databases_of(home) as databases:
        for name in BUILDERS:
            if (own := _of(name, topics)) is None:
                continue
            refilled = await service_of(home, databases, name, "refill").refill(own)
            told = f"{refilled.events} events of {', '.join(refilled.topics)} leave again"
            console.print(f"{name}: {told if refilled.topics else 'nothing is lost'}")
    return 0
