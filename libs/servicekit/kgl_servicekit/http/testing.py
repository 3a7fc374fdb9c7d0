"""Typed fakes for tests of APIs: a database that keeps Idempotency-Keys only, and a service around routers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast
from uuid import UUID

import httpx
from fastapi import APIRouter, FastAPI
from pydantic import SecretStr

from kgl_servicekit.database.cause import Cause
from kgl_servicekit.database.signals import Signals
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.http.health import Check
from kgl_servicekit.http.idempotency import FIND, KEEP, LOCK
from kgl_servicekit.http.run import Runs
from kgl_servicekit.identity.testing import FakeAuthority
from kgl_servicekit.settings import ServiceSettings

C = TypeVar("C")
R = TypeVar("R")


class FakeTransaction:
    """Knows the statements of Idempotency-Key; what it writes is there only after its commit."""

    def __init__(self, database: "FakeDatabase", workspaces: tuple[UUID, ...], cause: Cause | None) -> None:
        self.workspaces = workspaces
        self.cause = cause
        self.kept: dict[bytes, Mapping[str, Any]] = {}
        self.locks: set[int] = set()
        self._database = database

    async def fetchval(self, sql: str, *args: Any) -> Any:
        assert sql == LOCK
        await asyncio.sleep(0)
        if args[0] in self._database.locked - self.locks:
            return False
        self.locks.add(args[0])
        self._database.locked.add(args[0])
        return True

    async def fetchrow(self, sql: str, *args: Any) -> Mapping[str, Any] | None:
        assert sql == FIND
        await asyncio.sleep(0)
        return self._database.kept.get(args[0])

    async def execute(self, sql: str, *args: Any) -> str:
        assert sql == KEEP
        scope, workspace, body_hash, status, headers, body = args
        self.kept[scope] = {
            "workspace_id": workspace,
            "body_hash": body_hash,
            "status": status,
            "headers": headers,
            "body": body,
        }
        return "INSERT 0 1"


class FakeDatabase:
    """Runs use cases with a `FakeTransaction`. `outage` is raised instead; `causes` lists what ran."""

    def __init__(self) -> None:
        self.kept: dict[bytes, Mapping[str, Any]] = {}
        self.locked: set[int] = set()
        self.causes: list[Cause | None] = []
        self.outage: Exception | None = None
        self.signals = Signals("postgresql://nowhere")

    async def run(
        self,
        workspaces: UUID | Iterable[UUID],
        use_case: Callable[[Transaction, C], Awaitable[R]],
        command: C,
        *,
        cause: Cause | None = None,
    ) -> R:
        if self.outage is not None:
            raise self.outage
        self.causes.append(cause)
        scope = (workspaces,) if isinstance(workspaces, UUID) else tuple(workspaces)
        tx = FakeTransaction(self, scope, cause)
        try:
            result = await use_case(cast(Transaction, tx), command)
            self.kept.update(tx.kept)
            return result
        finally:
            self.locked -= tx.locks

    async def ping(self) -> None:
        if self.outage is not None:
            raise self.outage


def settings_for_tests(**values: Any) -> ServiceSettings:
    """Settings of a service under test; nothing they name is reached."""
    nowhere = SecretStr("postgresql://nowhere")
    return ServiceSettings(**{"env": "test", "database_url": nowhere, "bus_url": nowhere, **values})


@dataclass(frozen=True, kw_only=True)
class ServedForTests:
    """The least service that an application can be made of."""

    routers: Sequence[tuple[str, APIRouter]]
    name: str = "sample"
    settings: ServiceSettings = field(default_factory=settings_for_tests)
    database: Runs = field(default_factory=FakeDatabase)
    authority: FakeAuthority = field(default_factory=FakeAuthority)
    outside: Any = None
    checks: Mapping[str, Check] = field(default_factory=dict)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        yield


def client_of(app: FastAPI, **options: Any) -> httpx.AsyncClient:
    """A client that speaks to the application in this process, at its public URL."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:8080", **options)
