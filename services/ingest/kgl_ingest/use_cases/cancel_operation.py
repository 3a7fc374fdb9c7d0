"""Cancel an operation: what nobody has begun or answered is not done any more."""

from uuid import UUID

from kgl_contracts.ingest import DocumentCancelled
from kgl_ingest.db import documents, receipts
from kgl_ingest.domain.documents import subject_of
from kgl_ingest.use_cases.read_plan import read_plan
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Conflict, NotFound
from kgl_servicekit.jobs import queue
from kgl_servicekit.operations import ENDED, Receipt


class OperationNotFound(NotFound, code="operation_not_found", status=404):
    """There is no such operation in this workspace; check the id and the workspace."""


class OperationEnded(Conflict, code="operation_ended", status=409):
    """This operation has ended: nothing of it is left to cancel. What it made can be deleted."""


class OperationNotCancellable(Conflict, code="operation_not_cancellable", status=409):
    """Only the work on a document can be cancelled; deletions, decisions and deliveries go to their end."""


async def cancel_operation(tx: Transaction, operation_id: UUID) -> Receipt:
    """Cancel the parsing and all that follows, or what is left of it; the receipt as it is known so far.

    Until the document is parsed nothing of it has left ingest, and all stages end here. After that graph is told,
    which withdraws the requests that no module has answered, and ends their stages.
    Raises: OperationNotFound (404), OperationEnded, OperationNotCancellable (409).
    """
    receipt: Receipt | None = await receipts.find(
        tx, operation_id
    )  # the list hears of an operation a moment after its start
    place = await documents.version_of_operation(tx, operation_id)
    if place is None:
        raise OperationNotFound if receipt is None else OperationNotCancellable
    plan = await read_plan(tx, *place)
    receipt = receipt or Receipt.planned(operation_id, "ingest.document", subject_of(place[0]), tuple(plan), tx.now)
    if await queue.cancel(tx, operation=operation_id):
        await documents.mark_cancelled(tx, *place)
        for stage in sorted({stage.name for stage in plan} | {stage.name for stage in receipt.stages}):
            await tx.report(stage, "cancelled", operation=operation_id)
    elif _is_left(receipt) and await documents.is_parsed(tx, *place):
        await tx.emit(DocumentCancelled(document_id=place[0], version=place[1]), operation=operation_id)
    else:
        raise OperationEnded
    await tx.audit("operation.cancel", f"operation:{operation_id}")
    return receipt


def _is_left(receipt: Receipt) -> bool:
    """Whether a required stage has not ended; one that failed already is no end of the others."""
    return any(stage.required and stage.state not in ENDED for stage in receipt.stages)
