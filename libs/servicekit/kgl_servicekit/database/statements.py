"""What may be done in a transaction by code that must leave no event, job or report behind."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol
from uuid import UUID

import asyncpg


class Statements(Protocol):
    """The statements of a transaction in one workspace, and nothing else of it."""

    @property
    def workspace(self) -> UUID: ...
    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]: ...
    async def fetchrow(self, sql: str, *args: Any) -> asyncpg.Record | None: ...
    async def fetchval(self, sql: str, *args: Any) -> Any: ...
    async def execute(self, sql: str, *args: Any) -> str: ...
    async def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None: ...


def rows_of(tag: str) -> int:
    """How many rows a statement has written, as its command tag says: 3 of "DELETE 3"."""
    return int(tag.rpartition(" ")[2])
