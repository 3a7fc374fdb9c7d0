"""The `kgl` command."""

from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from kgl_cli.dead_letters import dead_letters
from kgl_cli.ending import status_of
from kgl_cli.home import Home, HomeRefused
from kgl_cli.module import module
from kgl_cli.operations import operations
from kgl_cli.setup import setup
from kgl_cli.webhooks import webhooks
from kgl_servicekit.logs import configure_logging

app = typer.Typer(
    help="The Knowledge Graph Lab backend, on this machine.", no_args_is_help=True, pretty_exceptions_enable=False
)
app.add_typer(webhooks, name="webhooks")
app.add_typer(setup, name="setup")
app.add_typer(module, name="module")
app.add_typer(dead_letters, name="dead-letters")
app.add_typer(operations, name="operations")
console = Console()


@app.command()
def dev(
    port: Annotated[int | None, typer.Option(help="by default the last one, 8080 or a free one")] = None,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR")] = "WARNING",
) -> None:
    """Keep the system running, and print its URLs and a first login."""
    from kgl_cli.dev import serve

    configure_logging(log_level, "kgl")
    _run(serve(_home(), port, console), serves=True)


@app.command()
def demo(
    target: Annotated[
        str | None, typer.Option(help="URL of a running system; by default kgl dev, or one of its own")
    ] = None,
) -> None:
    """Run the main job on real documents, and check what came out."""
    from kgl_cli.demo.run import run_demo

    configure_logging("ERROR", "kgl")
    _run(run_demo(_home(), console, target))


@app.command()
def up(build: Annotated[bool, typer.Option(help="build the images first")] = True) -> None:
    """Start the whole system on real servers by docker compose, and print its URLs and a first login."""
    from kgl_cli.stack.run import up as start

    _run(start(_home(), Path.cwd(), console, build=build))


@app.command()
def scale(
    service: Annotated[str, typer.Argument(help="auth, ingest, graph, content or publish")],
    api: Annotated[int, typer.Option(min=0, help="processes that answer HTTP")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="processes that consume events and do jobs")] = 1,
) -> None:
    """Run so many processes of a service of the compose system."""
    from kgl_cli.stack.run import scale as scale_service

    raise typer.Exit(scale_service(service, api, workers, console))


@app.command()
def reset(yes: Annotated[bool, typer.Option(help="do not ask")] = False) -> None:
    """Remove the compose system with all its data; asks first."""
    from kgl_cli.stack.run import reset as remove

    raise typer.Exit(remove(Path.cwd(), console, confirmed=yes))


@app.command()
def refill(
    topics: Annotated[list[str] | None, typer.Argument(help="by default those that the bus has lost")] = None,
    embedded: Annotated[bool, typer.Option("--embedded", help="the system of `kgl dev`, though there is .env")] = False,
) -> None:
    """Send again what the outboxes of all services keep, after the bus has lost events."""
    from kgl_cli.refill import refill as send_again

    configure_logging("WARNING", "kgl")
    _run(send_again(_home(), Path.cwd(), console, topics or [], embedded=embedded))


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
    drift: Annotated[bool, typer.Option("--drift", help="look for drift now, which takes longer")] = False,
    embedded: Annotated[bool, typer.Option("--embedded", help="the system of `kgl dev`, though there is .env")] = False,
) -> None:
    """Say what is wrong with the system and what to do about it; ends with 0 when all is well, with 1 else."""
    from kgl_cli.doctor import doctor as ask

    configure_logging("ERROR", "kgl")
    _run(ask(_home(), Path.cwd(), console, embedded=embedded, json=as_json, drift=drift))


@app.command()
def drift(
    repair: Annotated[bool, typer.Option("--repair", help="derive anew what differs")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
    embedded: Annotated[bool, typer.Option("--embedded", help="the system of `kgl dev`, though there is .env")] = False,
) -> None:
    """Compare what is derived with its source; ends with 0 when nothing is left to be done, with 1 else."""
    from kgl_cli.drift import drift as look

    configure_logging("ERROR", "kgl")
    _run(look(_home(), Path.cwd(), console, embedded=embedded, repair=repair, json=as_json))


@app.command()
def rebuild(
    service: Annotated[str, typer.Argument(help="whose tables they are")],
    name: Annotated[str, typer.Argument(help="graph has search and links, publish has items")],
    embedded: Annotated[bool, typer.Option("--embedded", help="the system of `kgl dev`, though there is .env")] = False,
) -> None:
    """Build derived tables of a service anew from their source, while everything goes on working."""
    from kgl_cli.rebuild import rebuild as build

    configure_logging("WARNING", "kgl")
    _run(build(_home(), Path.cwd(), console, service, name, embedded=embedded))


def _home() -> Home:
    try:
        return Home.from_environment()
    except HomeRefused as refused:
        console.print(f"[red]{refused}[/red]")
        raise typer.Exit(2) from refused


def _run(work: Coroutine[Any, Any, int], *, serves: bool = False) -> None:
    try:
        status = status_of(work, serves=serves)
    except HomeRefused as refused:
        console.print(f"[red]{refused}[/red]")
        status = 2
    raise typer.Exit(status)


if __name__ == "__main__":
    app()
