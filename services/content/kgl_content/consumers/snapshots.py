"""Subscription to the topic on which snapshots are asked for, and told: what is told there is for others."""

from kgl_content.use_cases.snapshot_items import ITEMS
from kgl_contracts.publish import ItemsSnapshotRequested
from kgl_contracts.topics import REPLAY_PUBLISH_CONTENT
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import DONE, Event, Subscription, Verdict

content_snapshots = Subscription("content.snapshots", topic=REPLAY_PUBLISH_CONTENT)


@content_snapshots.on(ItemsSnapshotRequested)
async def on_snapshot_requested(tx: Transaction, event: Event[ItemsSnapshotRequested]) -> Verdict:
    await ITEMS.begin(tx, event.data.snapshot_id)
    return DONE
