"""The hop by hand: asyncpg and orjson alone, for one type, one handler and nothing that can fail.

Transactions, rows and durability are those of the runtime, and the events that it sends are as complete:
position by compare-and-set, duplicates by the sequence of the key, effect, sequence and outbox row in one
transaction; a relay that deletes a pending row after the acknowledgement.
"""

import asyncio
import zlib
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson

from benchmarks.hop_raw_bus import BATCH, Message, RawBus
from kgl_contracts.topics import DOCUMENTS
from kgl_servicekit.testing.postgres import Roles

_MOVE = "update consumer_position set next = $3 where subscription = 'raw' and partition = $1 and next = $2"
_SEEN = "select key, last from key_position where subscription = 'raw' and topic = $1 and key = any($2::text[])"
_EFFECT = "insert into effect select * from unnest($1::uuid[], $2::uuid[], $3::int[])"
_EMIT = """
with input as (
    select * from unnest($1::uuid[], $2::text[], $3::smallint[], $4::uuid[], $5::bytea[], $6::uuid[], $7::uuid[],
                         $8::text[], $9::text[], $10::timestamptz[])
    with ordinality as i(event_id, key, shard, workspace_id, data, operation_id, causation_id, actor, traceparent,
                         occurred_at, place)
), drawn as (
    insert into outbox_key as k (topic, key, last)
    select 'kgl.graph', key, count(*) from input group by key order by key
    on conflict (topic, key) do update set last = k.last + excluded.last returning k.key, k.last
), logged as (
    insert into outbox_log (event_id, topic, key, type, sequence, epoch, occurred_at, workspace_id, operation_id,
                            causation_id, actor, traceparent, data)
    select event_id, 'kgl.graph', i.key, 'graph.document.indexed.v1',
           d.last - count(*) over (partition by i.key) + row_number() over (partition by i.key order by i.place),
           1, occurred_at, workspace_id, operation_id, causation_id, actor, traceparent, data
    from input i join drawn d on d.key = i.key order by i.place
    returning id, logged_at, key
)
insert into outbox_pending (id, shard, logged_at)
select l.id, s.shard, l.logged_at from logged l join (select distinct key, shard from input) s on s.key = l.key
"""
_REMEMBER = """
insert into key_position (subscription, topic, key, source, epoch, last)
select 'raw', $1, key, 'ingest', 1, last from unnest($2::text[], $3::bigint[]) as i(key, last)
on conflict (subscription, topic, key, source) do update set last = excluded.last
"""
_READ = """
select p.id, l.event_id, l.key, l.type, l.sequence, l.workspace_id, l.operation_id, l.causation_id, l.actor,
       l.traceparent, l.occurred_at, l.data
from outbox_pending p join outbox_log l on l.logged_at = p.logged_at and l.id = p.id order by p.id limit $1
"""


async def raw_hop(roles: Roles, bus: RawBus) -> None:
    """Consume and relay until cancelled."""
    consuming, relaying = await asyncpg.connect(roles.service), await asyncpg.connect(roles.service)
    await consuming.execute(
        "insert into consumer_position (subscription, topic, incarnation, partition, next, from_start)"
        f" select 'raw', '{DOCUMENTS.name}', 'x', n, 0, true from generate_series(0, {DOCUMENTS.partitions - 1}) n"
    )
    await bus.start()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_consume(consuming, bus))
            group.create_task(raw_relay(relaying, bus))
    finally:
        await bus.stop()
        await consuming.close()
        await relaying.close()


async def _consume(connection: Any, bus: RawBus) -> None:
    positions: dict[int, int] = {}
    while True:
        for partition, messages in await bus.poll():
            await _settle(connection, partition, messages, positions)


async def _settle(connection: Any, partition: int, records: list[Message], positions: dict[int, int]) -> None:
    workspaces = {record.headers["ce_workspaceid"] for record in records}
    await connection.execute(f"begin; set local kgl.workspaces = '{','.join(sorted(workspaces))}'")
    end = records[-1].offset + 1
    await connection.execute(_MOVE, partition, positions.get(partition, 0), end)
    seen = {row["key"]: row["last"] for row in await connection.fetch(_SEEN, DOCUMENTS.name, [r.key for r in records])}
    new = []
    for record in records:
        sequence = int(record.headers["ce_sequence"])
        if sequence == seen.get(record.key, 0) + 1:
            seen[record.key] = sequence
            new.append((record, orjson.loads(record.value)))
    ids = [UUID(record.headers["ce_workspaceid"]) for record, _ in new]
    documents = [UUID(data["document_id"]) for _, data in new]
    await connection.execute(_EFFECT, ids, documents, [data["version"] for _, data in new])
    await connection.execute(
        _EMIT,
        [uuid4() for _ in new],
        [record.key for record, _ in new],
        [zlib.crc32(record.key.encode()) % 16 for record, _ in new],
        ids,
        [
            orjson.dumps({"document_id": data["document_id"], "version": data["version"], "chunk_count": 1})
            for _, data in new
        ],
        [UUID(record.headers["ce_operationid"]) for record, _ in new],
        [UUID(record.headers["ce_id"]) for record, _ in new],
        [record.headers["ce_actorid"] for record, _ in new],
        [record.headers["traceparent"] for record, _ in new],
        [datetime.fromisoformat(record.headers["ce_time"]) for record, _ in new],
    )
    await connection.execute(_REMEMBER, DOCUMENTS.name, list(seen), list(seen.values()))
    await connection.execute("commit")
    positions[partition] = end


async def raw_relay(connection: Any, bus: RawBus) -> None:
    """Claim, send, delete, until cancelled."""
    while True:
        rows = await connection.fetch(_READ, BATCH)
        if not rows:
            await asyncio.sleep(0.002)
            continue
        await bus.send([(row["key"], _headers(row), row["data"]) for row in rows])
        await connection.execute("delete from outbox_pending where id = any($1::bigint[])", [row["id"] for row in rows])


def _headers(row: Any) -> dict[str, str]:
    return {
        "ce_specversion": "1.0",
        "ce_id": str(row["event_id"]),
        "ce_type": row["type"],
        "ce_source": "graph",
        "ce_time": row["occurred_at"].isoformat(),
        "ce_sourceepoch": "1",
        "content-type": "application/json",
        "ce_workspaceid": str(row["workspace_id"]),
        "ce_operationid": str(row["operation_id"]),
        "ce_causationid": str(row["causation_id"]),
        "ce_actorid": row["actor"],
        "ce_sequence": str(row["sequence"]),
        "traceparent": row["traceparent"],
    }
