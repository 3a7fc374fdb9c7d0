"""What happens in a workspace goes to its live log, its feed, and the endpoints that asked for it."""

from typing import Any

from kgl_contracts.content import ItemDrafted, ItemPublished
from kgl_contracts.envelope import Envelope
from kgl_contracts.event import EventData
from kgl_contracts.operations import OperationEnded, ReceiptProgressed
from kgl_publish.db import deliveries, feeds
from kgl_publish.domain.webhooks import frozen_body, of_kind, stage_of
from kgl_publish.jobs.declared import Deliver
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import Event
from kgl_servicekit.ids import derived_id


async def announce(tx: Transaction, event: Event[EventData]) -> None:
    """Log a public event, show it in the feed if it is a published item, and start its deliveries."""
    await log_event(tx, event)
    if isinstance(event.data, ItemPublished):
        await feeds.put_item(tx, event.data)
        await tx.report("publish.feed", "done")
    if isinstance(event.data, ItemDrafted):
        await tx.report("publish.live", "done")
    await _start_deliveries(tx, event, event.envelope.type)


async def announce_end(tx: Transaction, event: Event[OperationEnded]) -> None:
    """Show live that an operation has ended, and start deliveries to the endpoints that want to hear of its kind."""
    data = event.data.model_dump(mode="json")
    await feeds.append_live(tx, tx.workspace, event.envelope, data, topic=None, key=None)
    await _start_deliveries(tx, event, event.envelope.type, of_kind(event.envelope.type, event.data.kind))


async def _start_deliveries(tx: Transaction, event: Event[Any], *names: str) -> None:
    """To each endpoint that wants events of one of these names, once for each event.

    The receipt of a publication lists them; those of other operations would be full of what they cause on their way.
    """
    envelope = event.envelope
    operation = tx.cause.operation_id if isinstance(event.data, ItemPublished) else None
    for endpoint in await deliveries.endpoints_for(tx, names):
        delivery = derived_id("delivery", endpoint, envelope.id)
        body = frozen_body(envelope.type, envelope.time, event.data.model_dump(mode="json"))
        if await deliveries.add_delivery(tx, delivery, endpoint, envelope.id, envelope.type, body, operation):
            await tx.start_job(Deliver(delivery_id=delivery, number=1), key=f"{delivery}/1")
            if operation is not None:
                await tx.report(stage_of(delivery), "waiting", operation=operation)


async def log_event(tx: Transaction, event: Event[EventData]) -> None:
    """Log a public event of one workspace, and nothing else."""
    data = event.data.model_dump(mode="json")
    await feeds.append_live(tx, tx.workspace, event.envelope, data, topic=event.data.topic.name, key=event.data.key)


async def announce_progress(tx: Transaction, envelope: Envelope, progress: ReceiptProgressed) -> None:
    """Log what moved in the receipts of each workspace."""
    for workspace in sorted({entry.workspace_id for entry in progress.entries}):
        entries = [
            entry.model_dump(mode="json", exclude={"workspace_id"})
            for entry in progress.entries
            if entry.workspace_id == workspace
        ]
        await feeds.append_live(tx, workspace, envelope, {"entries": entries}, topic=None, key=None)
