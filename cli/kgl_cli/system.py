"""The embedded system: five services, their workers, the bus and the edge in one process."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import uvicorn
from loguru import logger

import kgl_auth.bootstrap
import kgl_content.bootstrap
import kgl_graph.bootstrap
import kgl_ingest.bootstrap
import kgl_publish.bootstrap
from kgl_auth.settings import AuthSettings
from kgl_cli.edge import App, Edge
from kgl_cli.first_owner import ensure_first_owner
from kgl_cli.home import Credentials, Home, Running
from kgl_cli.locks import only_dev
from kgl_cli.postgres import Databases, used_databases
from kgl_cli.reader import run_reader
from kgl_content.settings import ContentSettings
from kgl_graph.settings import GraphSettings
from kgl_ingest.settings import IngestSettings
from kgl_publish.settings import PublishSettings
from kgl_servicekit.bus.postgres import PostgresBus, migrate_bus
from kgl_servicekit.database.migrations import migrate
from kgl_servicekit.service import Service

LOCAL_EGRESS = "127.0.0.1:8099"
BUILDERS: dict[str, tuple[Callable[..., Service], type[Any], tuple[str, ...]]] = {
    "auth": (kgl_auth.bootstrap.build, AuthSettings, ("auth",)),
    "ingest": (kgl_ingest.bootstrap.build, IngestSettings, ("ingest", "operations", "dead-letters")),
    "graph": (kgl_graph.bootstrap.build, GraphSettings, ("graph", "modules")),
    "content": (kgl_content.bootstrap.build, ContentSettings, ("content",)),
    "publish": (kgl_publish.bootstrap.build, PublishSettings, ("publish", "live", "events")),
}


class WorkerEnded(Exception):
    """A worker that should run for ever has ended."""


@asynccontextmanager
async def embedded_system(home: Home, port: int | None = None) -> AsyncIterator[tuple[Credentials, bool]]:
    """A whole system on http://localhost:<port>, ready when this yields; the only one of its home, or HomeRefused.

    And whether its port differs from the last one's: then tokens issued before are void.
    """
    with only_dev(home):
        chosen, moved = (port, False) if port is not None else home.port()
        async with used_databases(home) as databases, _served(home, databases, chosen) as credentials:
            yield credentials, moved


@asynccontextmanager
async def _served(home: Home, databases: Databases, port: int) -> AsyncIterator[Credentials]:
    url = f"http://localhost:{port}"
    bus = PostgresBus(databases.service("kgl_bus"), worker="dev")
    services = {name: built(name, home, databases, bus, url) for name in BUILDERS}
    await _migrate(databases, list(services.values()))
    async with AsyncExitStack() as stack:
        apis: dict[str, App] = {}
        for name, service in services.items():
            app = service.api()
            await stack.enter_async_context(app.router.lifespan_context(app))
            apis |= dict.fromkeys(BUILDERS[name][2], app)
        await stack.enter_async_context(_serving(Edge(url, apis), port))
        credentials = await ensure_first_owner(home, services["auth"], url)
        await stack.enter_async_context(_working(list(services.values()), bus, credentials))
        home.write_running(Running(pid=os.getpid(), port=port, url=url))
        stack.callback(home.clear_running)
        yield credentials


async def _migrate(databases: Databases, services: Sequence[Service]) -> None:
    await migrate_bus(databases.owner("kgl_bus"), "kgl_bus")
    for service in services:
        await migrate(service.migrations, databases.owner(f"kgl_{service.name}"), service.branches)


def built(name: str, home: Home, databases: Databases, bus: PostgresBus, url: str) -> Service:
    """One service of the embedded system."""
    build, settings, _ = BUILDERS[name]
    return build(
        settings(
            env="development",
            public_url=url,
            database_url=databases.service(f"kgl_{name}"),
            bus_url=databases.service("kgl_bus"),
            object_dir=home.objects,
            worker_name="dev",
            pool_size=6,
            egress_allow=LOCAL_EGRESS,
            rate_limit_per_minute=100_000,
        ),
        bus,
    )


@asynccontextmanager
async def _serving(app: Edge, port: int) -> AsyncIterator[None]:
    """Answer HTTP on loopback."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, lifespan="off", log_config=None, access_log=False, ws="websockets-sansio"
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server._serve())
    while not server.started:
        if task.done():
            await task
            raise RuntimeError(f"port {port} cannot be served")
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def _working(services: Sequence[Service], bus: PostgresBus, credentials: Credentials) -> AsyncIterator[None]:
    """All workers, and the built-in reader; if one of them ends, the system does."""
    loops = [service.work() for service in services]
    tasks = [asyncio.create_task(loop) for loop in (*loops, bus.maintain(), run_reader(credentials))]
    main = asyncio.current_task()
    failures: list[BaseException | None] = []

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and main is not None:
            logger.opt(exception=task.exception()).error("worker.ended")
            failures.append(task.exception())
            main.cancel()

    for task in tasks:
        task.add_done_callback(ended)
    try:
        yield
    finally:
        for task in tasks:
            task.remove_done_callback(ended)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if failures:
            raise WorkerEnded("a worker ended, so the system did; its error is in the log") from failures[0]
