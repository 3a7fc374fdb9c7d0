"""What servers need before the services start: `kgl setup ...`, one command for each server, each idempotent.

These run in an image of their own that has little of what the whole command needs: nothing here imports the rest
of `kgl_cli`.
"""

import typer

setup = typer.Typer(help="Prepare the servers that services use; each can be run again.", no_args_is_help=True)


@setup.callback()
def _commands() -> None:
    """Prepare the servers that services use; each can be run again."""


@setup.command()
def databases() -> None:
    """Make the databases and roles of the services, and of Keycloak."""
    from kgl_cli.setup.databases import run

    run()


@setup.command()
def kafka() -> None:
    """Make the topics of deploy/kafka/topics.yaml, and the users and rights of the services."""
    from kgl_cli.setup.kafka import run  # with the client libraries, which other commands do without

    run()


@setup.command()
def objects() -> None:
    """Make the bucket for documents, and the users and rights of the services on it."""
    from kgl_cli.setup.objects import run  # with the client libraries, which other commands do without

    run()
