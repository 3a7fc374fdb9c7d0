"""Which system a command is about, compose or embedded, and how its services are asked there."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import orjson

from kgl_cli.home import Home, HomeRefused
from kgl_cli.postgres import Databases, used_databases
from kgl_cli.stack import environment
from kgl_cli.stack.docker import Compose
from kgl_cli.system import built
from kgl_servicekit.bus.postgres import PostgresBus
from kgl_servicekit.service import Service

T = TypeVar("T")


class NoSystem(Exception):
    """There is none here; the sentence says where one was looked for."""


class NotAnswered(Exception):
    """A service's container did not answer; the sentence is the last that it said."""


def compose_of(home: Home, folder: Path, *, embedded: bool) -> Compose | None:
    """The compose system of the folder, or None for the embedded one of this home; raises NoSystem."""
    path = environment.file_of(folder)
    if path.exists() and not embedded:
        return Compose(path)
    if not home.has_system():
        raise NoSystem(f"There is neither {path} of `make up` nor a system of `make dev` in {home.path}.")
    return None


def in_worker(service: str, *words: str) -> tuple[str, ...]:
    """For docker compose: a command of a service in a container of its own, with the settings of its worker."""
    return ("run", "--rm", "--no-deps", "-T", f"{service}-worker", *words)


def told_by(compose: Compose, service: str, *words: str, of: Callable[..., T], seconds: float) -> list[T]:
    """What such a command tells as a list in JSON, each made by `of`; raises NotAnswered."""
    status, answer, said = compose.tried(*in_worker(service, *words), seconds=seconds)
    try:
        return [of(**row) for row in orjson.loads(answer)]
    except (orjson.JSONDecodeError, TypeError) as unreadable:
        last = next(iter(reversed(said.strip().splitlines())), f"it ended with status {status}")
        raise NotAnswered(last) from unreadable


@asynccontextmanager
async def databases_of(home: Home) -> AsyncIterator[Databases]:
    """The databases of the embedded system, whether `kgl dev` runs or not.

    Raises HomeRefused while one starts, which migrates them.
    """
    if home.running() is None and (starting := home.dev()) is not None:
        raise HomeRefused(f"A kgl dev starts or ends on this KGL_HOME (pid {starting}); ask again in a moment.")
    async with used_databases(home) as databases:
        yield databases


def service_of(home: Home, databases: Databases, name: str, worker: str) -> Service:
    """A service of the embedded system, which answers no requests here; `worker` is its name on the bus."""
    bus = PostgresBus(databases.service("kgl_bus"), worker=worker)
    return built(name, home, databases, bus, "http://localhost:8080")
