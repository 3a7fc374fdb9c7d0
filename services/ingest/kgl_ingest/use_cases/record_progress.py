"""Keep the receipts of the whole system up to date."""

from kgl_contracts.operations import OperationStarted, ReceiptProgressed
from kgl_ingest.db import operations
from kgl_servicekit.database.transaction import Transaction

RECEIPTS_MOVED = "kgl_receipts"


async def record_operation(tx: Transaction, started: OperationStarted) -> None:
    """List a new operation with its plan."""
    await operations.start(tx, started)
    tx.notify(RECEIPTS_MOVED)


async def record_progress(tx: Transaction, progress: ReceiptProgressed) -> None:
    """Move the stages on that a worker reports."""
    await operations.merge(tx, progress.entries)
    tx.notify(RECEIPTS_MOVED)
