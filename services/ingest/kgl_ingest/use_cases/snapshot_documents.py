"""Tell all documents anew, page by page, for a service that rebuilds what it derives from them."""

from uuid import UUID

from kgl_contracts.ingest import DocumentSnapshotted, DocumentsSnapshotEnded
from kgl_contracts.operations import SnapshotRequested
from kgl_contracts.topics import REPLAY_GRAPH_DOCUMENTS
from kgl_ingest.db import snapshots
from kgl_ingest.jobs.snapshot import SnapshotDocuments
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import DONE, SUPERSEDED, Verdict

PAGE = 200
_BEFORE_ALL = UUID(int=0)


async def begin_snapshot(tx: Transaction, event: SnapshotRequested) -> Verdict:
    """Start with the first workspace; a snapshot for a topic that is not ours is not for us."""
    if f"kgl.replay.{event.subscription}" != REPLAY_GRAPH_DOCUMENTS.name:
        return SUPERSEDED
    await _begin_workspace(tx, event.snapshot_id, _BEFORE_ALL, 0)
    return DONE


async def snapshot_page(tx: Transaction, data: SnapshotDocuments) -> None:
    """Tell one page, and have the next one told, or the end: together, so that each page is told once."""
    rows = await snapshots.page(tx, data.after, PAGE)
    for row in rows:
        await tx.emit(DocumentSnapshotted(snapshot_id=data.snapshot_id, **dict(row)))
    count = data.count + len(rows)
    if len(rows) == PAGE:
        await tx.start_job(SnapshotDocuments(snapshot_id=data.snapshot_id, after=rows[-1]["document_id"], count=count))
    else:
        await _begin_workspace(tx, data.snapshot_id, tx.workspace, count)


async def _begin_workspace(tx: Transaction, snapshot: UUID, after: UUID, count: int) -> None:
    """Go on with the workspace after this one, or tell the end."""
    workspace = await snapshots.next_workspace(tx, after)
    if workspace is None:
        await tx.emit(DocumentsSnapshotEnded(snapshot_id=snapshot, count=count), instance=True)
        return
    await tx.start_job(SnapshotDocuments(snapshot_id=snapshot, after=_BEFORE_ALL, count=count), workspace=workspace)
