"""Receipts of all services: every operation and every report comes here."""

from uuid import UUID

from kgl_contracts.operations import OperationStarted, ReceiptProgressed
from kgl_contracts.topics import OPERATIONS
from kgl_ingest.use_cases.record_progress import RECEIPTS_MOVED, record_operation, record_progress
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import DONE, Event, Subscription, Verdict

__all__ = ["RECEIPTS_MOVED", "ingest_operations"]

ingest_operations = Subscription("ingest.operations", topic=OPERATIONS)


def _workspaces(data: ReceiptProgressed) -> set[UUID]:
    return {entry.workspace_id for entry in data.entries}


@ingest_operations.on(OperationStarted)
async def on_operation_started(tx: Transaction, event: Event[OperationStarted]) -> Verdict:
    await record_operation(tx, event.data)
    return DONE


@ingest_operations.on(ReceiptProgressed, workspaces=_workspaces)
async def on_receipt_progressed(tx: Transaction, event: Event[ReceiptProgressed]) -> Verdict:
    await record_progress(tx, event.data)
    return DONE
