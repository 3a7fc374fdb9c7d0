"""Telling all that a service has anew, page by page and workspace by workspace, for another one that rebuilds.

Each page is one job; it tells its part and orders the next page in one transaction, so that each part is told once.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from kgl_contracts.operations import SnapshotEnd, SnapshotPart
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.jobs.declare import JobData

PAGE = 200
_BEFORE_ALL = UUID(int=0)


class PageOrder(Protocol):
    """The job of a page: what comes after `after` in the job's workspace; `count` parts were told before."""

    @property
    def snapshot_id(self) -> UUID: ...
    @property
    def after(self) -> UUID: ...
    @property
    def count(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a snapshot tells.

    order  makes the job of a page from `snapshot_id`, `after` and `count`, as in PageOrder
    page   the parts of the transaction's workspace after an id, at most so many, in the order of their ids
    end    makes what is told in the end from `snapshot_id` and `count`
    """

    order: Callable[..., JobData]
    page: Callable[[Transaction, UUID, UUID, int], Awaitable[Sequence[tuple[UUID, SnapshotPart]]]]
    end: Callable[..., SnapshotEnd]

    async def begin(self, tx: Transaction, snapshot: UUID) -> None:
        """Start with the first workspace."""
        await self._begin_workspace(tx, snapshot, _BEFORE_ALL, 0)

    async def tell_page(self, tx: Transaction, data: PageOrder) -> None:
        """Tell one page, and have the next one told, or the end."""
        parts = await self.page(tx, data.snapshot_id, data.after, PAGE)
        for _, part in parts:
            await tx.emit(part)
        count = data.count + len(parts)
        if len(parts) == PAGE:
            await tx.start_job(self.order(snapshot_id=data.snapshot_id, after=parts[-1][0], count=count))
        else:
            await self._begin_workspace(tx, data.snapshot_id, tx.workspace, count)

    async def _begin_workspace(self, tx: Transaction, snapshot: UUID, after: UUID, count: int) -> None:
        workspace = await next_workspace(tx, after)
        if workspace is None:
            await tx.emit(self.end(snapshot_id=snapshot, count=count), instance=True)
            return
        await tx.start_job(self.order(snapshot_id=snapshot, after=_BEFORE_ALL, count=count), workspace=workspace)


async def next_workspace(tx: Transaction, after: UUID) -> UUID | None:
    """The next workspace that the service has something of (`kgl_next_workspace` of its migrations)."""
    found: UUID | None = await tx.fetchval("select kgl_next_workspace($1)", after)
    return found
