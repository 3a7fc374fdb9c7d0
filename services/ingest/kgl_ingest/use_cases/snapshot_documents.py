"""All documents, told anew for a service that rebuilds what it derives from them."""

from collections.abc import Sequence
from uuid import UUID

from kgl_contracts.ingest import DocumentSnapshotted, DocumentsSnapshotEnded
from kgl_contracts.operations import SnapshotRequested
from kgl_contracts.topics import REPLAY_GRAPH_DOCUMENTS
from kgl_ingest.db import snapshots
from kgl_ingest.jobs.snapshot import SnapshotDocuments
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.snapshot import Snapshot
from kgl_servicekit.events.subscription import DONE, SUPERSEDED, Verdict


async def _page(tx: Transaction, snapshot: UUID, after: UUID, most: int) -> Sequence[tuple[UUID, DocumentSnapshotted]]:
    rows = await snapshots.page(tx, after, most)
    return [(row["document_id"], DocumentSnapshotted(snapshot_id=snapshot, **dict(row))) for row in rows]


DOCUMENTS = Snapshot(SnapshotDocuments, _page, DocumentsSnapshotEnded)


async def begin_snapshot(tx: Transaction, event: SnapshotRequested) -> Verdict:
    """A snapshot for a topic that is not ours is not for us."""
    if f"kgl.replay.{event.subscription}" != REPLAY_GRAPH_DOCUMENTS.name:
        return SUPERSEDED
    await DOCUMENTS.begin(tx, event.snapshot_id)
    return DONE
