"""What servers need before the services start: `kgl setup ...`, one command for each server, each idempotent.

These run in an image of their own that has little of what the whole command needs: nothing here imports the rest
of `kgl_cli`.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import typer

from kgl_servicekit.settings import NotConfigured

setup = typer.Typer(help="Prepare the servers that services use; each can be run again.", no_args_is_help=True)


@setup.callback()
def _commands() -> None:
    """Prepare the servers that services use; each can be run again."""


@setup.command()
def databases() -> None:
    """Make the databases and roles of the services, and of Keycloak."""
    from kgl_cli.setup.databases import DatabaseServer, create_all

    _run(lambda: create_all(DatabaseServer.from_environment()))


def _run(work: Callable[[], Coroutine[Any, Any, str]]) -> None:
    """Run to the end and print what was done; what an operator has to mend is one line."""
    try:
        print(asyncio.run(work()))
    except NotConfigured as wrong:
        sys.exit(str(wrong))
