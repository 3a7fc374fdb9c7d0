"""Tell all released items anew, page by page, for a service that shows them."""

from uuid import UUID

from kgl_content.db import snapshots
from kgl_content.domain.items import excerpt
from kgl_content.jobs.declared import SnapshotItems
from kgl_contracts.content import ItemSnapshotted, ItemsSnapshotEnded
from kgl_servicekit.database.transaction import Transaction

PAGE = 200
_BEFORE_ALL = UUID(int=0)


async def begin_snapshot(tx: Transaction, snapshot: UUID) -> None:
    """Start with the first workspace."""
    await _begin_workspace(tx, snapshot, _BEFORE_ALL, 0)


async def snapshot_page(tx: Transaction, data: SnapshotItems) -> None:
    """Tell one page, and have the next one told, or the end: together, so that each page is told once."""
    rows = await snapshots.page(tx, data.after, PAGE)
    for row in rows:
        part = ItemSnapshotted(
            snapshot_id=data.snapshot_id,
            item_id=row["item_id"],
            version=row["version"],
            title=row["title"],
            excerpt=excerpt(row["body"]),
            content_url=f"/content/v1/items/{row['item_id']}",
            first_published_at=row["first_published_at"],
            published_at=row["published_at"],
        )
        await tx.emit(part)
    count = data.count + len(rows)
    if len(rows) == PAGE:
        await tx.start_job(SnapshotItems(snapshot_id=data.snapshot_id, after=rows[-1]["item_id"], count=count))
    else:
        await _begin_workspace(tx, data.snapshot_id, tx.workspace, count)


async def _begin_workspace(tx: Transaction, snapshot: UUID, after: UUID, count: int) -> None:
    """Go on with the workspace after this one, or tell the end."""
    workspace = await snapshots.next_workspace(tx, after)
    if workspace is None:
        await tx.emit(ItemsSnapshotEnded(snapshot_id=snapshot, count=count), instance=True)
        return
    await tx.start_job(SnapshotItems(snapshot_id=snapshot, after=_BEFORE_ALL, count=count), workspace=workspace)
