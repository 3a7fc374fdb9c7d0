"""What the feed shows otherwise than content tells is put right."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from kgl_contracts.content import ItemSnapshotted
from kgl_publish.db import published_items
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.drift.check import Item


async def compare_told(tx: Transaction, parts: Sequence[ItemSnapshotted]) -> list[tuple[UUID, str, Any]]:
    """Items that are not shown as content tells of them: id, how they differ, and what it told."""
    told = {part.item_id: part for part in parts}
    return [(item, state, told[item]) for item, state in await published_items.differing(tx, parts)]


async def mend_told(tx: Transaction, differing: Sequence[Item]) -> int:
    """Show what content tells, as its event would have; what content does not know is shown no more."""
    for item in sorted(differing):
        part: ItemSnapshotted | None = item.source
        if part is None:
            await published_items.remove(tx, [UUID(item.key)])
        else:
            await published_items.PRESENT.put(tx, part, part.first_published_at)
    return len(differing)
