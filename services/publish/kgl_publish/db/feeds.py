"""Statements of the feed and of live updates."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from kgl_contracts.content import ItemPublished
from kgl_contracts.envelope import Envelope
from kgl_publish.db import published_items
from kgl_publish.domain.atom import Entry
from kgl_servicekit.database.transaction import Transaction

LIVE = "kgl_live"

# all workspaces of the transaction at once and in one order, so that two batches cannot wait for each other;
# 64 locks, since a batch may be of hundreds of workspaces
_LOCK = """
select pg_advisory_xact_lock(hashtext('kgl_publish.live'), bucket)
from (select distinct hashtext(workspace) & 63 as bucket
      from unnest(string_to_array(nullif(current_setting('kgl.workspaces', true), ''), ',')) workspace
      order by bucket) buckets
"""


async def put_item(tx: Transaction, event: ItemPublished) -> None:
    """The feed shows this version now, unless it shows a later one."""
    await published_items.PRESENT.put(tx, event, event.published_at)


async def newest_items(tx: Transaction, limit: int) -> Sequence[Entry]:
    """The newest published items."""
    rows = await tx.fetch(
        """select item_id, title, excerpt, content_url, first_published_at, published_at from published_item
           where workspace_id = $1 order by published_at desc, item_id limit $2""",
        tx.workspace,
        limit,
    )
    return [Entry(**dict(row)) for row in rows]


async def append_live(
    tx: Transaction, workspace: UUID, envelope: Envelope, data: dict[str, Any], *, topic: str | None, key: str | None
) -> None:
    """Append to the live log; without a topic the event is for live updates alone, and no consumer gets it.

    A number is drawn under a lock of its workspace that is held to the commit, so that in one workspace a lower
    number never becomes visible after a higher one.
    """
    await tx.execute(_LOCK)
    await tx.execute(
        """insert into live_event (workspace_id, event_id, type, data, at, topic, key, source, sequence,
                                   source_epoch, operation_id, causation_id, actor_id, traceparent)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)""",
        workspace,
        envelope.id,
        envelope.type,
        data,
        envelope.time,
        topic,
        key,
        envelope.source,
        envelope.sequence,
        envelope.source_epoch,
        envelope.operation_id,
        envelope.causation_id,
        envelope.actor_id,
        envelope.traceparent,
    )
    tx.notify(LIVE)


async def live_after(tx: Transaction, number: int, limit: int) -> list[asyncpg.Record]:
    """The workspace's live events after this number."""
    return await tx.fetch(
        """select number, type, data, at from live_event where workspace_id = $1 and number > $2
           order by number limit $3""",
        tx.workspace,
        number,
        limit,
    )


async def last_live(tx: Transaction) -> int:
    """The number of the workspace's newest live event, 0 if there is none."""
    number: int = await tx.fetchval(
        "select coalesce(max(number), 0) from live_event where workspace_id = $1", tx.workspace
    )
    return number


async def add_ticket(
    tx: Transaction, sha256: str, principal: str, expires_at: datetime, session_ends_at: datetime | None
) -> None:
    """A right to connect once."""
    await tx.execute(
        "insert into live_ticket values ($1, $2, $3, $4, $5)",
        tx.workspace,
        sha256,
        principal,
        expires_at,
        session_ends_at,
    )


async def use_ticket(tx: Transaction, sha256: str) -> asyncpg.Record | None:
    """Take the ticket, if it is there and valid: it works once."""
    return await tx.fetchrow(
        """delete from live_ticket where workspace_id = $1 and sha256 = $2 and expires_at > now()
           returning principal, session_ends_at""",
        tx.workspace,
        sha256,
    )
