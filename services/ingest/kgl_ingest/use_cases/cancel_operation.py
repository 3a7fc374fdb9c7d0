"""Cancel an operation whose document is not parsed yet: nothing of it has left ingest."""

from uuid import UUID

from kgl_ingest.db import documents, operations
from kgl_ingest.domain.documents import subject_of
from kgl_ingest.use_cases.read_plan import read_plan
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Conflict, NotFound
from kgl_servicekit.jobs import queue
from kgl_servicekit.operations import Receipt


class OperationNotFound(NotFound, code="operation_not_found", status=404):
    """There is no such operation in this workspace; check the id and the workspace."""


class OperationNotCancellable(Conflict, code="operation_not_cancellable", status=409):
    """Only an operation whose document is not parsed yet can be cancelled; delete the document instead."""


async def cancel_operation(tx: Transaction, operation_id: UUID) -> Receipt:
    """Cancel what is queued or running, and all stages; the receipt as it is known so far.

    Raises: OperationNotFound (404), OperationNotCancellable (409).
    """
    receipt = await operations.find(tx, operation_id)  # the list hears of an operation a moment after its start
    version = await documents.version_of_operation(tx, operation_id)
    if version is None and receipt is None:
        raise OperationNotFound
    if version is None or not await queue.cancel(tx, operation=operation_id):
        raise OperationNotCancellable
    await documents.mark_cancelled(tx, *version)
    plan = await read_plan(tx, *version)
    receipt = receipt or Receipt.planned(operation_id, "ingest.document", subject_of(version[0]), tuple(plan), tx.now)
    for stage in sorted({stage.name for stage in plan} | {stage.name for stage in receipt.stages}):
        await tx.report(stage, "cancelled", operation=operation_id)
    await tx.audit("operation.cancel", f"operation:{operation_id}")
    return receipt
