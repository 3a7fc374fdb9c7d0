"""Two services on one bus in one process: one that decides, and one that derives what it tells."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from types import ModuleType
from uuid import UUID

import httpx

from kgl_servicekit.bus.port import Bus
from kgl_servicekit.bus.postgres import PostgresBus, migrate_bus
from kgl_servicekit.identity.testing import FakeAuthority
from kgl_servicekit.ids import uuid7
from kgl_servicekit.service import Service
from kgl_servicekit.settings import ServiceSettings
from kgl_servicekit.testing.events import running
from kgl_servicekit.testing.postgres import PostgresForTests


@dataclass(frozen=True)
class Side:
    """A service: its bootstrap module, and what makes its settings of those that all have."""

    bootstrap: ModuleType
    settings: Callable[..., ServiceSettings]


@dataclass
class Pair:
    """Both at work, a client of the source, and as many more processes' worth of the other one as are asked for."""

    source: Service
    derived: Service
    client: httpx.AsyncClient
    headers: dict[str, str]
    workspace: UUID
    another: Callable[[], Service]
    environment: dict[str, str]

    async def command(self, *words: str) -> int:
        """`kgl-<derived>` in a process of its own; the answer is its exit status."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", f"kgl_{self.derived.name}", *words, env={**os.environ, **self.environment}
        )
        return await process.wait()


@asynccontextmanager
async def pair(postgres: PostgresForTests, folder: Path, source: Side, derived: Side) -> AsyncIterator[Pair]:
    """Both on databases and a bus of their own."""
    async with AsyncExitStack() as stack:
        bus, of_source, of_derived = [
            await stack.enter_async_context(postgres.database(migrations))
            for migrations in (None, source.bootstrap.MIGRATIONS, derived.bootstrap.MIGRATIONS)
        ]
        await migrate_bus(bus.owner, bus.service.partition("//")[2].partition("@")[0])
        objects = folder / "objects"

        def made(side: Side, database: str, worker: str) -> Service:
            settings = side.settings(
                env="test",
                bus_url="postgresql:///none",
                object_dir=objects,
                database_url=database,
                worker_name=worker,
            )
            name = side.bootstrap.__name__.partition(".")[0]
            own: Bus = PostgresBus(bus.service, worker=f"{name}/{worker}", lease=1.0)
            service: Service = side.bootstrap.build(settings, own)
            return service

        authority, workspace, numbers = FakeAuthority(), uuid7(), count()
        deciding = replace(made(source, of_source.service, "w"), authority=authority)
        app = deciding.api()
        await stack.enter_async_context(app.router.lifespan_context(app))
        client = await stack.enter_async_context(
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
        )
        live = made(derived, of_derived.service, "w")
        await stack.enter_async_context(running(deciding.work, live.work))
        yield Pair(
            source=deciding,
            derived=live,
            client=client,
            headers=authority.user(workspace),
            workspace=workspace,
            another=lambda: made(derived, of_derived.service, f"other{next(numbers)}"),
            environment={
                "KGL_ENV": "test",
                "KGL_DATABASE_URL": of_derived.service,
                "KGL_BUS_URL": bus.service,
                "KGL_OBJECT_DIR": str(objects),
            },
        )
