"""Subscription to receipts: the live log of each workspace shows its own, endpoints that asked hear of their ends."""

from uuid import UUID

from kgl_contracts.operations import OperationEnded, ReceiptProgressed
from kgl_contracts.topics import OPERATIONS
from kgl_publish.use_cases.announce import announce_end, announce_progress
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import DONE, Event, Subscription, Verdict

publish_operations = Subscription("publish.operations", topic=OPERATIONS)


def _workspaces(data: ReceiptProgressed) -> set[UUID]:
    return {entry.workspace_id for entry in data.entries}


@publish_operations.on(ReceiptProgressed, workspaces=_workspaces)
async def on_receipt_progressed(tx: Transaction, event: Event[ReceiptProgressed]) -> Verdict:
    await announce_progress(tx, event.envelope, event.data)
    return DONE


@publish_operations.on(OperationEnded)
async def on_operation_ended(tx: Transaction, event: Event[OperationEnded]) -> Verdict:
    await announce_end(tx, event)
    return DONE
