"""Published items, as the feed shows them. Their table can be rebuilt: the same statements then write to its shadow."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kgl_contracts.content import ItemPublished, ItemSnapshotted
from kgl_servicekit.database.statements import Statements, rows_of
from kgl_servicekit.database.transaction import Transaction

TABLES = ("published_item",)

_PUT = """
insert into published_item{suffix} as p (workspace_id, item_id, version, title, excerpt, content_url,
                                         first_published_at, published_at)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (workspace_id, item_id) do update
set version = excluded.version, title = excluded.title, excerpt = excluded.excerpt,
    content_url = excluded.content_url, published_at = excluded.published_at,
    first_published_at = least(p.first_published_at, excluded.first_published_at)
where p.version <= excluded.version
"""

# what this service has newer news of, or an event that is held, is left alone
_TOLD = """
select i.item_id, case
    when exists (select from held_key k where k.topic = 'kgl.content' and k.key = i.item_id::text) then null
    when p.item_id is null then 'version ' || i.version || ' is not shown'
    when p.version > i.version then null
    when (p.version, p.title, p.excerpt, p.content_url, p.published_at)
         is distinct from (i.version, i.title, i.excerpt, i.content_url, i.published_at)
    then 'version ' || i.version || ' is shown otherwise'
    end as state
from unnest($2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])
  as i(item_id, version, title, excerpt, content_url, published_at)
left join published_item p on p.workspace_id = $1 and p.item_id = i.item_id
"""


@dataclass(frozen=True, slots=True)
class PublishedItems:
    """The statements of the table, or of its shadow while that is built."""

    suffix: str = ""

    async def put(self, tx: Statements, item: ItemPublished | ItemSnapshotted, first: datetime) -> None:
        """Show this version, which was released at first then, unless a later one is shown."""
        await tx.execute(
            _PUT.replace("{suffix}", self.suffix),
            tx.workspace,
            item.item_id,
            item.version,
            item.title,
            item.excerpt,
            item.content_url,
            first,
            item.published_at,
        )


PRESENT = PublishedItems()
NEXT = PublishedItems("_next")


async def differing(tx: Transaction, parts: Sequence[ItemSnapshotted]) -> list[tuple[UUID, str]]:
    """Items that are not shown as content tells of them, and how."""
    rows = await tx.fetch(
        _TOLD,
        tx.workspace,
        [part.item_id for part in parts],
        [part.version for part in parts],
        [part.title for part in parts],
        [part.excerpt for part in parts],
        [part.content_url for part in parts],
        [part.published_at for part in parts],
    )
    return [(row["item_id"], row["state"]) for row in rows if row["state"] is not None]


async def shown(tx: Transaction, after: UUID, limit: int) -> list[UUID]:
    """The next items of the feed after this one."""
    rows = await tx.fetch(
        "select item_id from published_item where workspace_id = $1 and item_id > $2 order by item_id limit $3",
        tx.workspace,
        after,
        limit,
    )
    return [row["item_id"] for row in rows]


async def remove(tx: Transaction, items: Sequence[UUID]) -> int:
    """Show these no more; the answer is how many were shown."""
    tag = await tx.execute(
        "delete from published_item where workspace_id = $1 and item_id = any($2::uuid[])", tx.workspace, list(items)
    )
    return rows_of(tag)
