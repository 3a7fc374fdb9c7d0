"""Keep the receipts of the whole system up to date."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from kgl_contracts.operations import OperationStarted, Progress
from kgl_ingest.db import operations
from kgl_servicekit.database.transaction import Transaction

RECEIPTS_MOVED = "kgl_receipts"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordProgress:
    """Operations that were started, with their workspaces, and stages that workers moved on."""

    started: Sequence[tuple[UUID, OperationStarted]] = ()
    moved: Sequence[Progress] = ()


async def record_progress(tx: Transaction, command: RecordProgress) -> None:
    """List the new operations with their plans, move the stages on, and tell of each operation that ends by that."""
    for workspace, ended in await operations.record(tx, command.started, command.moved):
        await tx.emit(ended, workspace=workspace, operation=ended.operation_id)
    tx.notify(RECEIPTS_MOVED)
