"""Statements of snapshots."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from kgl_servicekit.database.transaction import Transaction

# one that the release before released again, beside this one, has no first time yet
_PAGE = """
select i.id as item_id, i.published_version as version, v.title, v.body,
       coalesce(i.first_published_at, i.published_at) as first_published_at, i.published_at
from item i join item_version v on v.workspace_id = i.workspace_id and v.item_id = i.id
                               and v.version = i.published_version
where i.workspace_id = $1 and i.id > $2 order by i.id limit $3
"""


async def page(tx: Transaction, after: UUID, limit: int) -> Sequence[asyncpg.Record]:
    """The workspace's released items after this one, with the released words."""
    return await tx.fetch(_PAGE, tx.workspace, after, limit)
