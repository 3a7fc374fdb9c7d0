"""Statements of items, versions and documents."""

from datetime import datetime
from uuid import UUID

from kgl_content.domain.items import Draft, Item, Version
from kgl_servicekit.database.statements import rows_of
from kgl_servicekit.database.transaction import Transaction

_SHOWN = """
select i.id, i.kind, i.state, i.version, i.published_version, v.title, v.body, v.sources, v.author, i.document_id,
       i.module, i.created_at, i.updated_at, i.published_at
from item i join item_version v on v.workspace_id = i.workspace_id and v.item_id = i.id and v.version = i.version
where i.workspace_id = $1
"""

_HEAR = """
insert into document as d (workspace_id, document_id, version, deleted_at) values ($1, $2, $3, $4)
on conflict (workspace_id, document_id) do update
set version = greatest(d.version, excluded.version), deleted_at = coalesce(d.deleted_at, excluded.deleted_at)
returning version, deleted_at
"""


async def hear(tx: Transaction, document: UUID, version: int, *, deleted: bool = False) -> bool:
    """Note a version, or the end, of a document, and lock its row; True when this version is the current one."""
    row = await tx.fetchrow(_HEAR, tx.workspace, document, version, tx.now if deleted else None)
    assert row is not None
    return row["deleted_at"] is None and row["version"] == version


async def is_deleted(tx: Transaction, document: UUID) -> bool:
    """Whether the end of a document was heard; its row is made and locked, so that an end to come waits for us."""
    row = await tx.fetchrow(_HEAR, tx.workspace, document, 0, None)
    assert row is not None
    return row["deleted_at"] is not None


async def add(
    tx: Transaction, item: UUID, kind: str, draft: Draft, *, document: UUID | None, module: str | None
) -> None:
    """A new item with its first version."""
    await tx.execute(
        """insert into item (workspace_id, id, kind, state, version, document_id, module, created_at, updated_at)
           values ($1, $2, $3, 'draft', 1, $4, $5, $6, $6)""",
        tx.workspace,
        item,
        kind,
        document,
        module,
        tx.now,
    )
    await _add_version(tx, item, 1, draft)


async def replace_words(tx: Transaction, item: UUID, version: int, draft: Draft) -> None:
    """A new version, which is a draft."""
    await _add_version(tx, item, version, draft)
    await tx.execute(
        "update item set version = $3, state = 'draft', updated_at = $4 where workspace_id = $1 and id = $2",
        tx.workspace,
        item,
        version,
        tx.now,
    )


async def _add_version(tx: Transaction, item: UUID, version: int, draft: Draft) -> None:
    await tx.execute(
        """insert into item_version (workspace_id, item_id, version, title, body, sources, author, created_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8)""",
        tx.workspace,
        item,
        version,
        draft.title,
        draft.body,
        draft.sources,
        draft.author,
        tx.now,
    )


async def find(tx: Transaction, item: UUID, *, lock: bool = False) -> Item | None:
    """One item with its newest version; locked to the end of the transaction if asked."""
    if lock:
        # by itself: whoever waits for a row gets its newest state, and everything joined to it as it was before
        await tx.execute("select from item where workspace_id = $1 and id = $2 for update", tx.workspace, item)
    row = await tx.fetchrow(f"{_SHOWN} and i.id = $2", tx.workspace, item)
    return None if row is None else Item(**dict(row))


async def find_generated(tx: Transaction, document: UUID, module: str, kind: str) -> Item | None:
    """The item that a module's texts about a document become, locked."""
    item = await tx.fetchval(
        "select id from item where workspace_id = $1 and document_id = $2 and module = $3 and kind = $4 for update",
        tx.workspace,
        document,
        module,
        kind,
    )
    return None if item is None else await find(tx, item)


async def listed(
    tx: Transaction,
    *,
    limit: int,
    before: tuple[datetime, UUID] | None,
    state: str | None,
    kind: str | None,
    document: UUID | None,
) -> list[Item]:
    """Items, newest first."""
    rows = await tx.fetch(
        f"""{_SHOWN} and ($2::timestamptz is null or (i.created_at, i.id) < ($2, $3))
            and ($4::text is null or i.state = $4) and ($5::text is null or i.kind = $5)
            and ($6::uuid is null or i.document_id = $6)
            order by i.created_at desc, i.id desc limit $7""",
        tx.workspace,
        *(before or (None, None)),
        state,
        kind,
        document,
        limit,
    )
    return [Item(**dict(row)) for row in rows]


async def versions(tx: Transaction, item: UUID) -> list[Version]:
    """All versions of an item, newest first."""
    rows = await tx.fetch(
        """select version, title, body, author, created_at, decision, reviewer, reason, decided_at
           from item_version where workspace_id = $1 and item_id = $2 order by version desc""",
        tx.workspace,
        item,
    )
    return [Version(**dict(row)) for row in rows]


async def move(tx: Transaction, item: Item, state: str) -> None:
    """The item is in this state now; what is published stays what readers see."""
    published = state == "published"
    await tx.execute(
        """update item set state = $3, updated_at = $4,
                  published_version = case when $5 then version else published_version end,
                  published_at = case when $5 then $4 else published_at end,
                  first_published_at = case when $5 then coalesce(first_published_at, $4) else first_published_at end
           where workspace_id = $1 and id = $2""",
        tx.workspace,
        item.id,
        state,
        tx.now,
        published,
    )


async def decide(tx: Transaction, item: Item, decision: str, reason: str | None) -> None:
    """Note what the reviewer decided about the newest version."""
    await tx.execute(
        """update item_version set decision = $4, reviewer = $5, reason = $6, decided_at = $7
           where workspace_id = $1 and item_id = $2 and version = $3""",
        tx.workspace,
        item.id,
        item.version,
        decision,
        tx.cause.actor,
        reason,
        tx.now,
    )


async def is_gone(tx: Transaction, document: UUID) -> bool:
    """Whether the end of this document was heard of."""
    sql = "select deleted_at is not null from document where workspace_id = $1 and document_id = $2"
    return bool(await tx.fetchval(sql, tx.workspace, document))


async def unlink(tx: Transaction, document: UUID) -> tuple[int, int]:
    """Remove items about a document that were never published, and cut the others' links to it: how many of each."""
    gone = await tx.fetch(
        """delete from item where workspace_id = $1 and document_id = $2 and published_version is null
           returning id""",
        tx.workspace,
        document,
    )
    await tx.execute(
        "delete from item_version where workspace_id = $1 and item_id = any($2::uuid[])",
        tx.workspace,
        [row["id"] for row in gone],
    )
    cut = await tx.execute(
        "update item set document_id = null, module = null where workspace_id = $1 and document_id = $2",
        tx.workspace,
        document,
    )
    return len(gone), rows_of(cut)
