"""What servers need before the services start: `kgl setup ...`, one command for each server, each idempotent."""

import typer

setup = typer.Typer(help="Prepare the servers that services use; each can be run again.", no_args_is_help=True)
