"""What a command asks of a system's APIs, and how it ends."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from kgl_cli.ending import status_of
from kgl_cli.home import Home, HomeRefused, chosen_system
from kgl_client.api import Api, ApiProblem, ApiUnreachable

Target = Annotated[str | None, typer.Option(help="URL of the system; by default the running kgl dev")]
Work = Callable[[Api], Awaitable[int]]


class Refused(Exception):
    """The command cannot be carried out as it stands; the sentence says what to write."""


def ask(work: Work, target: str | None) -> None:
    """With the API of the system; what is refused ends the command with one line. Raises Exit with the status."""

    async def on_system() -> int:
        known = chosen_system(Home.from_environment(), target)
        async with Api(known.url, known.api_key) as api:
            return await work(api)

    try:
        status = status_of(on_system())
    except (ApiProblem, ApiUnreachable, HomeRefused, OSError, Refused) as refused:
        typer.echo(_sentence(refused), err=True)
        raise typer.Exit(1) from refused
    raise typer.Exit(status)


def _sentence(refused: Exception) -> str:
    places = refused.members.get("errors", ()) if isinstance(refused, ApiProblem) else ()
    return "\n".join([str(refused), *(f"  {each.get('pointer')}: {each.get('detail')}" for each in places)])
