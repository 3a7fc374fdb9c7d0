"""Receipts of all services: every operation and every report comes here."""

from collections.abc import Sequence
from uuid import UUID

from kgl_contracts.operations import OperationStarted, ReceiptProgressed
from kgl_contracts.topics import OPERATIONS
from kgl_ingest.use_cases.record_progress import RecordProgress, record_progress
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import DONE, Event, Subscription, Verdict

ingest_operations = Subscription("ingest.operations", topic=OPERATIONS)


def _workspaces(data: ReceiptProgressed) -> set[UUID]:
    return {entry.workspace_id for entry in data.entries}


@ingest_operations.on_batch(OperationStarted)
@ingest_operations.on_batch(ReceiptProgressed, workspaces=_workspaces)
async def on_receipts(
    tx: Transaction, events: Sequence[Event[OperationStarted | ReceiptProgressed]]
) -> Sequence[Verdict]:
    command = RecordProgress(
        started=[(tx.under(e).workspace, e.data) for e in events if isinstance(e.data, OperationStarted)],
        moved=[entry for e in events if isinstance(e.data, ReceiptProgressed) for entry in e.data.entries],
    )
    await record_progress(tx, command)
    return [DONE] * len(events)
