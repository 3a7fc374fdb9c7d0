"""`kgl webhooks listen`: a receiver on this machine, that registers itself and shows what arrives."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import typer
import uvicorn
from rich.console import Console
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kgl_cli.ending import status_of
from kgl_cli.home import Home, HomeRefused, chosen_system
from kgl_cli.stack import docker
from kgl_client.api import Api

PORT = 8099
LOOPBACK = "127.0.0.1"
webhooks = typer.Typer(help="Receive webhooks on this machine.", no_args_is_help=True)


@dataclass(frozen=True, slots=True)
class Arrived:
    """One delivery; `verified` says that its signature is right."""

    webhook_id: str
    verified: bool
    body: bytes


OnArrival = Callable[[Arrived], Awaitable[None]]


class Receiver:
    """An HTTP receiver that verifies signatures (Standard Webhooks).

    It listens on loopback, or on the address of the Docker bridge for a system in containers, which calls this
    machine host.docker.internal.
    """

    def __init__(self, secret: str, on_arrival: OnArrival, *, callback_host: str = LOOPBACK, port: int = PORT) -> None:
        self._verifier = Webhook(secret)
        self._on_arrival = on_arrival
        app = Starlette(routes=[Route("/webhooks", self._receive, methods=["POST"])])
        self._server = uvicorn.Server(
            uvicorn.Config(
                app, host=_address(callback_host), port=port, log_config=None, access_log=False, lifespan="off"
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Receiver":
        self._task = asyncio.create_task(self._server._serve())
        while not self._server.started:
            if self._task.done():
                raise OSError(f"port {PORT} is taken; stop what listens there")
            await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await self._task

    async def _receive(self, request: Request) -> Response:
        body = await request.body()
        try:
            self._verifier.verify(body, dict(request.headers))
            verified = True
        except WebhookVerificationError:
            verified = False
        await self._on_arrival(Arrived(request.headers.get("webhook-id", ""), verified, body))
        return Response(status_code=204 if verified else 401)


def _address(callback_host: str) -> str:
    """The address of this machine behind the name that the system calls it by."""
    if callback_host == LOOPBACK:
        return LOOPBACK
    address = docker.ask("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}")
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return LOOPBACK  # Docker Desktop: its bridge is in a machine of its own, and it calls loopback
    return address


async def register(api: Api, event_types: list[str], *, callback_host: str = LOOPBACK, port: int = PORT) -> Any:
    """A new endpoint for a receiver on this machine; its secret is in the answer."""
    return await api.post(
        "/publish/v1/endpoints",
        {
            "url": f"http://{callback_host}:{port}/webhooks",
            "event_types": event_types,
            "description": "kgl webhooks listen",
        },
    )


@webhooks.command()
def listen(
    event: list[str] = typer.Option(["content.item.published.v1"], help="event type to receive; repeatable"),
    target: str | None = typer.Option(None, help="URL of the system; by default the running kgl dev"),
) -> None:
    """Register a receiver on port 8099 with the running system, and print each delivery."""
    try:
        known = chosen_system(Home.from_environment(), target)
    except HomeRefused as refused:
        typer.echo(str(refused), err=True)
        raise typer.Exit(1) from refused
    raise typer.Exit(status_of(_listen(Api(known.url, known.api_key), event, known.callback_host), serves=True))


async def _listen(api: Api, event_types: list[str], callback_host: str = LOOPBACK) -> NoReturn:
    console = Console()

    async def show(arrived: Arrived) -> None:
        mark = "[green]verified[/green]" if arrived.verified else "[red]not verified[/red]"
        console.print(f"{arrived.webhook_id}  {mark}")
        console.print_json(arrived.body.decode(errors="replace"))

    async with api:
        endpoint = await register(api, event_types, callback_host=callback_host)
        try:
            async with Receiver(endpoint["secret"], show, callback_host=callback_host):
                console.print(f"listening on port {PORT} for {', '.join(event_types)}; end with Ctrl-C")
                while True:
                    await asyncio.Event().wait()
        finally:
            await api.request("DELETE", f"/publish/v1/endpoints/{endpoint['id']}")
