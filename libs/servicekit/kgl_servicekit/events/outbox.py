"""Events out: the only place that writes outbox rows.

The sequence of (topic, key) is drawn under that key's row lock, which is held to the commit; the ids that
the relay orders by are drawn under the same lock, so that order of ids is order of sequence for every key.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from kgl_contracts.envelope import EVENT_LIMIT
from kgl_contracts.event import REGISTRY, EventData
from kgl_contracts.topics import Topic
from kgl_servicekit.database.cause import Cause
from kgl_servicekit.database.connection import Connection
from kgl_servicekit.database.core_migration import SHARDS

_WRITE = """
with input as (
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::uuid[], $7::uuid[],
                         $8::uuid[], $9::text[], $10::text[], $11::timestamptz[], $12::bytea[])
    with ordinality as i(event_id, topic, key, type, shard, workspace_id, operation_id,
                         causation_id, actor, traceparent, occurred_at, data, place)
), drawn as (
    insert into outbox_key as k (topic, key, last)
    select topic, key, count(*) from input group by topic, key order by topic, key
    on conflict (topic, key) do update set last = k.last + excluded.last
    returning k.topic, k.key, k.last
), numbered as (
    select i.*, d.last - count(*) over (partition by i.topic, i.key)
                + row_number() over (partition by i.topic, i.key order by i.place) as sequence
    from input i join drawn d on d.topic = i.topic and d.key = i.key
), logged as (
    insert into outbox_log (event_id, topic, key, type, sequence, epoch, occurred_at, workspace_id,
                            operation_id, causation_id, actor, traceparent, data)
    select event_id, topic, key, type, sequence, (select epoch from source), occurred_at, workspace_id,
           operation_id, causation_id, actor, traceparent, data
    from numbered order by place
    returning id, logged_at, topic, key
)
insert into outbox_pending (id, shard, logged_at)
select l.id, s.shard, l.logged_at
from logged l join (select distinct topic, key, shard from input) s on s.topic = l.topic and s.key = l.key
"""


class EventRefused(ValueError):
    """The event may not be sent: its type is unknown, or it is larger than the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Emission:
    """One event that leaves with the transaction."""

    id: UUID
    event: EventData
    workspace_id: UUID | None
    operation_id: UUID | None
    cause: Cause
    at: datetime


def shard_of(topic: Topic, key: str) -> int:
    """The relay shard of a key, fixed for life."""
    return 0 if topic.one_shard else zlib.crc32(key.encode()) % SHARDS


async def write_emissions(connection: Connection, emissions: Sequence[Emission]) -> None:
    """Write the events of one transaction, in one statement; raises EventRefused."""
    rows = [_row(emission) for emission in emissions]
    await connection.execute(_WRITE, *(list(column) for column in zip(*rows, strict=True)))


def _row(emission: Emission) -> tuple[Any, ...]:
    event = emission.event
    if REGISTRY.get(event.event_type) is not type(event):
        raise EventRefused(f"{type(event).__name__} is no declared event type")
    data = event.model_dump_json().encode()
    if len(data) > EVENT_LIMIT:
        raise EventRefused(f"{event.event_type} has {len(data)} bytes; an event may have {EVENT_LIMIT}")
    return (
        emission.id,
        event.topic.name,
        event.key,
        event.event_type,
        shard_of(event.topic, event.key),
        emission.workspace_id,
        emission.operation_id,
        emission.cause.id,
        emission.cause.actor,
        emission.cause.traceparent,
        emission.at,
        data,
    )
