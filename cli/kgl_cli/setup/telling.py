"""How the commands of `kgl setup` end."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import typer

from kgl_servicekit.settings import NotConfigured


def told(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run; what an operator has to mend ends the command with one line."""
    try:
        asyncio.run(work())
    except NotConfigured as wrong:
        typer.echo(str(wrong), err=True)
        raise typer.Exit(1) from wrong
