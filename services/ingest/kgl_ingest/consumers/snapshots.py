"""Snapshots that other services order, heard with the rest of kgl.operations."""

from kgl_contracts.operations import SnapshotRequested
from kgl_ingest.consumers.operations import ingest_operations
from kgl_ingest.use_cases.snapshot_documents import begin_snapshot
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import Event, Verdict


@ingest_operations.on(SnapshotRequested)
async def on_snapshot_requested(tx: Transaction, event: Event[SnapshotRequested]) -> Verdict:
    return await begin_snapshot(tx, event.data)
