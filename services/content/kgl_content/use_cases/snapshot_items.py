"""All released items, told anew for a service that shows them."""

from collections.abc import Sequence
from uuid import UUID

from kgl_content.db import snapshots
from kgl_content.domain.items import excerpt
from kgl_content.jobs.declared import SnapshotItems
from kgl_contracts.content import ItemSnapshotted, ItemsSnapshotEnded
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.snapshot import Snapshot


async def _page(tx: Transaction, snapshot: UUID, after: UUID, most: int) -> Sequence[tuple[UUID, ItemSnapshotted]]:
    return [
        (
            row["item_id"],
            ItemSnapshotted(
                snapshot_id=snapshot,
                item_id=row["item_id"],
                version=row["version"],
                title=row["title"],
                excerpt=excerpt(row["body"]),
                content_url=f"/content/v1/items/{row['item_id']}",
                first_published_at=row["first_published_at"],
                published_at=row["published_at"],
            ),
        )
        for row in await snapshots.page(tx, after, most)
    ]


ITEMS = Snapshot(SnapshotItems, _page, ItemsSnapshotEnded)
