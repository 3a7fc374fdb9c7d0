"""Drift between tables of one service: each row, or key of rows, is asked for its state."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg

from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.drift.check import ByHand, Item, by_workspace, workspaces

_PAGE = """
select p.key, ({state}) as state
from (select distinct {key} as key from {table} where workspace_id = $1 and {key} {which} order by 1 limit $3) as p
order by p.key
"""
_REPAIRED_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCheck:
    """Asks for each `key` of a table of the service for its `state`: an expression of p.key and $1, the workspace.

    It is null for what is well. `mend` repairs these keys in a transaction of their workspace; it looks again itself
    where it takes anything away.
    """

    name: str
    database: Database
    table: str
    key: str
    state: str
    mend: Callable[[Transaction, Sequence[UUID]], Awaitable[int]]
    by_hand: ByHand = field(default_factory=dict)
    page: int = 500

    async def look(self) -> AsyncIterator[Sequence[Item]]:
        async for workspace in workspaces(self.database):
            after = UUID(int=0)
            while True:
                rows = await self._rows(workspace, "> $2::uuid", after)
                yield [Item(workspace, str(row["key"]), row["state"]) for row in rows if row["state"] is not None]
                if len(rows) < self.page:
                    break
                after = rows[-1]["key"]

    async def again(self, items: Sequence[Item]) -> Sequence[Item]:
        found = []
        for workspace, mine in by_workspace(items).items():
            for first in range(0, len(mine), self.page):
                keys = [UUID(item.key) for item in mine[first : first + self.page]]
                rows = await self._rows(workspace, "= any($2::uuid[])", keys)
                found += [Item(workspace, str(row["key"]), row["state"]) for row in rows if row["state"] is not None]
        return found

    async def repair(self, items: Sequence[Item]) -> int:
        done = 0
        for workspace, mine in by_workspace(items).items():
            for first in range(0, len(mine), _REPAIRED_AT_ONCE):
                keys = [UUID(item.key) for item in mine[first : first + _REPAIRED_AT_ONCE]]
                done += await self.database.run(workspace, self.mend, keys)
        return done

    async def _rows(self, workspace: UUID, which: str, value: Any) -> list[asyncpg.Record]:
        sql = _PAGE.format(state=self.state, key=self.key, table=self.table, which=which)

        async def read(tx: Transaction, _: None) -> list[asyncpg.Record]:
            return await tx.fetch(sql, workspace, value, self.page)

        return await self.database.run(workspace, read, None)
