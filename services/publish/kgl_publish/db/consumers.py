"""Statements of named consumers, and what they read of the live log."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from kgl_publish.domain.consumers import COUNTED, CloudEvent, Consumer
from kgl_servicekit.database.transaction import Transaction

_WANTED = """workspace_id = c.workspace_id and number > c.position and topic is not null
    and (c.topics = '{}' or topic = any (c.topics)) and (c.types = '{}' or type = any (c.types))"""

_SHOWN = f"""
select c.name, c.topics, c.types, c.position, c.lost, c.created_at,
       case when c.leased_until > clock_timestamp() then c.leased_until end as leased_until,
       (select count(*) from (select from live_event where {_WANTED} limit {COUNTED}) l) as lag
from event_consumer c
"""


async def show(tx: Transaction, name: str) -> Consumer | None:
    """One consumer of the workspace."""
    row = await tx.fetchrow(f"{_SHOWN} where c.workspace_id = $1 and c.name = $2", tx.workspace, name)
    return None if row is None else Consumer(**dict(row))


async def list_consumers(tx: Transaction, after: str, limit: int) -> list[Consumer]:
    """Consumers by name."""
    rows = await tx.fetch(
        f"{_SHOWN} where c.workspace_id = $1 and c.name > $2 order by c.name limit $3", tx.workspace, after, limit
    )
    return [Consumer(**dict(row)) for row in rows]


async def lock_names(tx: Transaction) -> None:
    """Let nobody else make a consumer of the workspace until the end of the transaction."""
    await tx.execute("select pg_advisory_xact_lock(hashtext('kgl_publish.consumers'), hashtext($1))", str(tx.workspace))


async def count(tx: Transaction) -> int:
    """How many consumers the workspace has."""
    number: int = await tx.fetchval("select count(*) from event_consumer where workspace_id = $1", tx.workspace)
    return number


async def put(tx: Transaction, name: str, topics: Sequence[str], types: Sequence[str], position: int) -> None:
    """A new consumer at this position, or new filters for the one that is there."""
    await tx.execute(
        """insert into event_consumer (workspace_id, name, topics, types, position, pulled_to, token, lost, created_at)
           values ($1, $2, $3, $4, $5, $5, 0, 0, $6)
           on conflict (workspace_id, name) do update set topics = excluded.topics, types = excluded.types""",
        tx.workspace,
        name,
        list(topics),
        list(types),
        position,
        tx.now,
    )


async def lock(tx: Transaction, name: str) -> asyncpg.Record | None:
    """A consumer's row, locked; `leased` says whether its lease still runs."""
    return await tx.fetchrow(
        """select *, coalesce(leased_until > clock_timestamp(), false) as leased from event_consumer
           where workspace_id = $1 and name = $2 for update""",
        tx.workspace,
        name,
    )


async def remove(tx: Transaction, name: str) -> None:
    """Forget a consumer."""
    await tx.execute("delete from event_consumer where workspace_id = $1 and name = $2", tx.workspace, name)


async def unread(tx: Transaction, name: str, limit: int, size: int) -> list[CloudEvent]:
    """The next events, up to `limit`, and up to `size` bytes of data after the first."""
    rows = await tx.fetch(
        f"""select * from (
                select e.*, sum(octet_length(e.data::text)) over (order by e.number)
                            - octet_length(e.data::text) as bytes_before
                from event_consumer c cross join lateral (
                    select number, event_id, type, topic, key, source, sequence, source_epoch, operation_id,
                           causation_id, actor_id, traceparent, data, at
                    from live_event where {_WANTED} order by number limit $3
                ) e
                where c.workspace_id = $1 and c.name = $2
            ) windowed where bytes_before < $4 order by number""",
        tx.workspace,
        name,
        limit,
        size,
    )
    return [_cloud_event(tx, row) for row in rows]


async def lease(tx: Transaction, name: str, pulled_to: int, seconds: float) -> asyncpg.Record:
    """Give the consumer to a new holder; the answer is its token and how long it has it."""
    row = await tx.fetchrow(
        """update event_consumer set token = token + 1, pulled_to = $3,
                  leased_until = clock_timestamp() + $4 * interval '1 second'
           where workspace_id = $1 and name = $2 returning token, leased_until""",
        tx.workspace,
        name,
        pulled_to,
        seconds,
    )
    assert row is not None
    return row


async def move(tx: Transaction, name: str, position: int, lease_seconds: float | None) -> datetime | None:
    """Move the position, never back; keep the lease for so many seconds, or end it (None)."""
    until: datetime | None = await tx.fetchval(
        """update event_consumer set position = greatest(position, $3),
                  leased_until = clock_timestamp() + $4::float8 * interval '1 second'
           where workspace_id = $1 and name = $2 returning leased_until""",
        tx.workspace,
        name,
        position,
        lease_seconds,
    )
    return until


async def seek(tx: Transaction, name: str, position: int) -> None:
    """Put the consumer elsewhere; whoever holds it loses it, and what was lost is forgotten."""
    await tx.execute(
        """update event_consumer set position = $3, pulled_to = $3, lost = 0, token = token + 1, leased_until = null
           where workspace_id = $1 and name = $2""",
        tx.workspace,
        name,
        position,
    )


def _cloud_event(tx: Transaction, row: asyncpg.Record) -> CloudEvent:
    return CloudEvent(
        id=row["event_id"],
        type=row["type"],
        source=row["source"],
        time=row["at"],
        subject=row["key"],
        topic=row["topic"],
        position=row["number"],
        workspaceid=tx.workspace,
        sequence=row["sequence"],
        sourceepoch=row["source_epoch"],
        operationid=row["operation_id"],
        causationid=row["causation_id"],
        actorid=row["actor_id"],
        traceparent=row["traceparent"],
        data=row["data"],
    )
