"""Events out: the only place that writes outbox rows.

The sequence of (topic, key) is drawn under that key's row lock, which is held to the commit; the ids that
the relay orders by are drawn under the same lock, so that order of ids is order of sequence for every key.
"""

import zlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from kgl_contracts.envelope import EVENT_LIMIT
from kgl_contracts.event import REGISTRY, EventData
from kgl_contracts.operations import ReceiptProgressed
from kgl_contracts.topics import Topic
from kgl_servicekit.database.cause import Cause
from kgl_servicekit.database.connection import Connection
from kgl_servicekit.database.core_migration import SHARDS
from kgl_servicekit.poison import perhaps_broken

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

# the same for one event alone, as most commands send
_WRITE_ONE = """
with drawn as (
    insert into outbox_key as k (topic, key, last) values ($2, $3, 1)
    on conflict (topic, key) do update set last = k.last + excluded.last
    returning k.last
), logged as (
    insert into outbox_log (event_id, topic, key, type, sequence, epoch, occurred_at, workspace_id,
                            operation_id, causation_id, actor, traceparent, data)
    select $1, $2, $3, $4, d.last, s.epoch, $11, $6, $7, $8, $9, $10, $12 from drawn d, source s
    returning id, logged_at
)
insert into outbox_pending (id, shard, logged_at) select id, $5, logged_at from logged
"""


class EventRefused(ValueError):
    """The event may not be sent: its type is unknown, or it is larger than the limit."""


class Outgoing(NamedTuple):
    """One event that leaves with the transaction: a row of the outbox, in the order of the statement above."""

    id: UUID
    topic: str
    key: str
    type: str
    shard: int
    workspace_id: UUID | None
    operation_id: UUID | None
    causation_id: UUID
    actor: str
    traceparent: str | None
    at: datetime
    data: bytes


def shard_of(topic: Topic, key: str) -> int:
    """The relay shard of a key, fixed for life."""
    return 0 if topic.one_shard else zlib.crc32(key.encode()) % SHARDS


def outgoing(
    event: EventData, id: UUID, cause: Cause, at: datetime, *, workspace: UUID | None, operation: UUID | None
) -> Outgoing:
    """The row of one event; raises EventRefused."""
    model = type(event)
    if REGISTRY.get(model.event_type) is not model:
        raise EventRefused(f"{model.__name__} is no declared event type")
    data = perhaps_broken(model.event_type, model.__pydantic_serializer__.to_json(event))
    return _row(model, event.key, data, id, cause, at, workspace, operation)


def outgoing_report(reporter: str, entries: Sequence[dict[str, Any]], id: UUID, cause: Cause, at: datetime) -> Outgoing:
    """The row of `ReceiptProgressed`, without a model for each of its many entries."""
    data = orjson.dumps({"reporter": reporter, "entries": entries})
    return _row(ReceiptProgressed, reporter, data, id, cause, at, None, None)


def _row(
    model: type[EventData],
    key: str,
    data: bytes,
    id: UUID,
    cause: Cause,
    at: datetime,
    workspace: UUID | None,
    operation: UUID | None,
) -> Outgoing:
    if len(data) > EVENT_LIMIT:
        raise EventRefused(f"{model.event_type} has {len(data)} bytes; an event may have {EVENT_LIMIT}")
    topic, shard = model.topic, shard_of(model.topic, key)
    return Outgoing(
        id,
        topic.name,
        key,
        model.event_type,
        shard,
        workspace,
        operation,
        cause.id,
        cause.actor,
        cause.traceparent,
        at,
        data,
    )


async def write_outgoing(connection: Connection, rows: Sequence[Outgoing]) -> None:
    """Write the events of one transaction, in one statement."""
    if len(rows) == 1:
        await connection.execute(_WRITE_ONE, *rows[0])
    else:
        await connection.execute(_WRITE, *map(list, zip(*rows, strict=True)))
