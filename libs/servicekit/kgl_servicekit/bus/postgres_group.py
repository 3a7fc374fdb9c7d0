"""A member of a consumer group on the postgres transport."""

import contextlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import orjson

from kgl_servicekit.bus import postgres_schema as sql
from kgl_servicekit.bus.port import OnAssigned, PartitionBatch, PositionLost, StoredRecord, TopicMissing
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.waiting import wait_until_set

if TYPE_CHECKING:
    from kgl_servicekit.bus.postgres import PostgresBus

_LOOK_EVERY = 5.0


class PostgresConsumer:
    """One member of a group; its partitions are leased, and given up in good order by `stop`."""

    def __init__(self, bus: "PostgresBus", topic: str, group: str, on_assigned: OnAssigned) -> None:
        self._bus = bus
        self._topic = topic
        self._group = group
        self._member = bus.member_name()
        self._on_assigned = on_assigned
        self._next: dict[int, int] = {}
        self._paused: set[int] = set()
        self._renew_at = 0.0
        self._lost_at = 0.0
        self._members: list[str] = []
        self._incarnation: UUID | None = None
        self._compacted = False
        self._look_at = 0.0
        self._open = False
        self._woken = bus.signals.subscribe(sql.channel(topic))

    async def start(self) -> None:
        self._open = True
        try:
            async with self._bus.connection() as connection:
                await connection.execute(
                    """insert into log_group (topic, grp, partition)
                       select topic, $2, partition from log_partition where topic = $1 on conflict do nothing""",
                    self._topic,
                    self._group,
                )
            await self._renew()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        self._open = False
        self._bus.signals.unsubscribe(sql.channel(self._topic), self._woken)
        self._next.clear()
        with contextlib.suppress(Unavailable):
            async with self._bus.connection() as connection:
                for statement in sql.LEAVE:
                    await connection.execute(statement, self._topic, self._group, self._member)

    def assignment(self) -> frozenset[int]:
        return frozenset(self._next)

    async def seek(self, partition: int, offset: int) -> None:
        if partition in self._next:
            self._next[partition] = offset
            self._woken.set()

    def pause(self, partition: int) -> None:
        self._paused.add(partition)

    def resume(self, partition: int) -> None:
        self._paused.discard(partition)
        self._woken.set()

    async def commit(self, partition: int, offset: int) -> None:
        async with self._bus.connection() as connection:
            await connection.execute(
                """update log_group set position = $4, used_at = now()
                   where topic = $1 and grp = $2 and partition = $3 and owner = $5""",
                self._topic,
                self._group,
                partition,
                offset,
                self._member,
            )

    async def poll(self, max_records: int, timeout: float) -> list[PartitionBatch]:
        if not self._open:
            raise Unavailable("This consumer is stopped.", retry_after=1)
        until = time.monotonic() + timeout
        while True:
            now = time.monotonic()
            if now >= self._renew_at:
                await self._renew()
            # an idle group asks seldom: who sends wakes it, and what moves a position does
            if self._woken.is_set() or now >= self._look_at:
                self._woken.clear()
                self._look_at = 0.0
                found = await self._read(max_records)
                self._look_at = now + _LOOK_EVERY
                if any(len(batch.records) >= max_records for batch in found):
                    self._woken.set()
                if found:
                    return found
            left = until - time.monotonic()
            if left <= 0:
                return []
            await wait_until_set(self._woken, min(left, self._bus.lease / 3))

    async def _read(self, limit: int) -> list[PartitionBatch]:
        wanted = {partition: self._next[partition] for partition in sorted(self._next.keys() - self._paused)}
        if not wanted or time.monotonic() > self._lost_at:
            return []
        async with self._bus.connection() as connection:
            rows = await connection.fetch(sql.READ, self._topic, [*wanted], [*wanted.values()], limit)
        batches: dict[int, list[StoredRecord]] = {}
        late: dict[int, int] = {}
        for row in rows:
            partition, offset = row["partition"], row["offset"]
            if partition not in batches and offset != wanted[partition]:
                late[partition] = wanted[partition]
            if offset is None:
                continue
            record = StoredRecord(
                topic=self._topic,
                key=row["key"],
                headers=orjson.loads(row["headers"]),
                value=row["value"],
                partition=partition,
                offset=offset,
            )
            batches.setdefault(partition, []).append(record)
        if late and not self._compacted:
            await self._check_kept(late)
        for partition, records in batches.items():
            self._next[partition] = records[-1].offset + 1
        return [PartitionBatch(self._topic, partition, records) for partition, records in batches.items()]

    async def _check_kept(self, wanted: Mapping[int, int]) -> None:
        """Raise PositionLost where a partition begins behind the offset that is wanted of it.

        A hole behind a record that is kept is none to a reader, nor is any in a compacted topic.
        """
        begins = await self._bus.begin_offsets(self._topic)
        for partition, offset in wanted.items():
            if offset < begins[partition]:
                raise PositionLost(topic=self._topic, partition=partition, offset=offset, retry_after=1)

    async def _renew(self) -> None:
        """Stay a member, take the share that is ours, and give up what is not."""
        asked = time.monotonic()
        if not await self._prolong():
            await self._divide()
        self._renew_at, self._lost_at = asked + self._bus.lease / 3, asked + self._bus.lease

    async def _prolong(self) -> bool:
        """Stay as it is, in one statement, while the group is as it was when it was last divided."""
        if not self._members:
            return False
        async with self._bus.connection() as connection:
            return bool(
                await connection.fetchval(
                    sql.PROLONG, self._topic, self._group, self._member, self._bus.lease, self._members, [*self._next]
                )
            )

    async def _divide(self) -> None:
        async with self._bus.connection() as connection, connection.transaction():
            self._check_topic(
                await connection.fetchrow(
                    "select incarnation, compacted from log_topic where topic = $1 for update", self._topic
                )
            )
            await connection.execute(sql.JOIN, self._topic, self._group, self._member, self._bus.lease)
            await connection.execute(
                "delete from log_member where topic = $1 and grp = $2 and expires_at < clock_timestamp()",
                self._topic,
                self._group,
            )
            await connection.execute(sql.SHARE, self._topic, self._group, self._member)
            rows = await connection.fetch(
                "select partition, owner from log_group where topic = $1 and grp = $2", self._topic, self._group
            )
            if not rows:
                raise Unavailable(f"The group {self._group} was forgotten; join it anew.", retry_after=1)
            members = await connection.fetch(
                "select member from log_member where topic = $1 and grp = $2", self._topic, self._group
            )
        owned = {row["partition"] for row in rows if row["owner"] == self._member}
        for lost in self._next.keys() - owned:
            del self._next[lost]
        gained = frozenset(owned - self._next.keys())
        if gained:
            self._next.update(await self._on_assigned(gained))
            self._woken.set()
        self._members = sorted(row["member"] for row in members)

    def _check_topic(self, topic: asyncpg.Record | None) -> None:
        """Positions are good for one life of the topic: who holds some of an earlier one begins anew."""
        if topic is None:
            raise TopicMissing(topic=self._topic, retry_after=1)
        if self._incarnation not in (None, topic["incarnation"]):
            raise PositionLost(f"The topic {self._topic} was made anew.", topic=self._topic, retry_after=1)
        self._incarnation, self._compacted = topic["incarnation"], topic["compacted"]
