"""The feed anew: published items, from what content tells of all that is released."""

from typing import Any

from kgl_contracts.content import ItemPublished, ItemSnapshotted, ItemsSnapshotEnded
from kgl_contracts.publish import ItemsSnapshotRequested
from kgl_contracts.topics import CONTENT, REPLAY_PUBLISH_CONTENT
from kgl_publish.consumers.public import public_subscriptions
from kgl_publish.db.published_items import NEXT, TABLES
from kgl_servicekit.database.statements import Statements
from kgl_servicekit.events.rebuild import Rebuild, Write
from kgl_servicekit.events.subscription import Event

(_content,) = [subscription for subscription in public_subscriptions if subscription.topic == CONTENT]

items = Rebuild(
    "items",
    subscription=_content,
    replay=REPLAY_PUBLISH_CONTENT,
    ended=ItemsSnapshotEnded,
    tables=TABLES,
    request=lambda snapshot: ItemsSnapshotRequested(snapshot_id=snapshot),
)


@items.on(ItemSnapshotted)
async def on_item_snapshotted(_: Any, event: Event[ItemSnapshotted]) -> Write:
    async def write(tx: Statements) -> None:
        await NEXT.put(tx, event.data, event.data.first_published_at)

    return write


@items.on(ItemPublished)
async def on_item_published(_: Any, event: Event[ItemPublished]) -> Write:
    async def write(tx: Statements) -> None:
        await NEXT.put(tx, event.data, event.data.published_at)

    return write
