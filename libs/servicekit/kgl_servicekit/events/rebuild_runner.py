"""The process of a rebuild: snapshot, live topic, swap (`events/rebuild.py` says why they agree)."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import orjson
from loguru import logger

from kgl_contracts.operations import SnapshotEnd, SnapshotPart
from kgl_contracts.topics import Topic
from kgl_servicekit.bus.port import Bus, Consumer, PartitionBatch, StoredRecord
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import JobFailed, Unavailable
from kgl_servicekit.events import rebuild_state as state
from kgl_servicekit.events.delivery import Delivery, decode
from kgl_servicekit.events.holds import NOT_YET
from kgl_servicekit.events.rebuild import SILENCE, InPlace, Rebuild, RebuildIncomplete, Rebuilt, Run, SourceSilent
from kgl_servicekit.events.rebuild_state import Begin, Change, Changes
from kgl_servicekit.ids import uuid7

T = TypeVar("T")

_BATCH = 16  # chunks and vectors of so many keys are in memory at a time
_SAID = 10.0  # seconds of silence of the source after which it is said what the rebuild waits for
_STANDSTILL = 10.0  # seconds that the live subscription may wait for the rest to be read


class RebuildRunner:
    """Runs one rebuild to its end. A run that is cancelled or dies is gone on with by the next."""

    def __init__(self, database: Database, bus: Bus, rebuild: Rebuild, outside: Any) -> None:
        self._database = database
        self._bus = bus
        self._rebuild = rebuild
        self._outside = outside
        self._owner = uuid7()
        self._next: dict[str, dict[int, int]] = {}

    async def run(self) -> Rebuilt:
        """Rebuild and swap. Raises RebuildRunning, RebuildLost, RebuildIncomplete, SourceSilent."""
        try:
            run = await self._patiently(self._begin)
            await self._forget_groups(self._rebuild.generation(run.number - 1))
            await self._patiently(lambda: self._read_snapshot(run))
            rebuilt = await self._patiently(lambda: self._read_live_and_swap(run))
        except BaseException:
            with suppress(Unavailable):
                await self._database.run((), state.release, (self._rebuild.name, self._owner))
            raise
        await self._forget_groups(run.generation)
        return rebuilt

    async def _forget_groups(self, generation: str) -> None:
        """A group that nobody reads with any more must not keep the bus from trimming."""
        for topic in self._topics:
            await self._bus.forget_group(topic.name, generation)

    @property
    def _topics(self) -> tuple[Topic, Topic]:
        return self._rebuild.replay, self._rebuild.live.topic

    async def _patiently(self, act: Callable[[], Awaitable[T]]) -> T:
        """Wait an outage out."""
        delay = 0.1
        while True:
            try:
                return await act()
            except SourceSilent:
                raise
            except (Unavailable, asyncpg.LockNotAvailableError) as out:
                logger.bind(rebuild=self._rebuild.name, error=str(out)).warning("rebuild.paused")
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)

    async def _begin(self) -> Run:
        incarnations = {topic.name: await self._bus.incarnation(topic.name) for topic in self._topics}
        begins = {topic.name: await self._bus.begin_offsets(topic.name) for topic in self._topics}
        ends = {topic.name: await self._bus.end_offsets(topic.name) for topic in self._topics}
        command = Begin(self._rebuild, self._owner, begins, ends, incarnations)
        return await self._database.run((), state.begin, command)

    async def _read_snapshot(self, run: Run) -> None:
        async with self._consumer(run, self._rebuild.replay) as consumer:
            heard, said = time.monotonic(), False
            while not await self._database.run((), state.keep, run):
                if await self._read_more(run, consumer):
                    heard, said = time.monotonic(), False
                silent = time.monotonic() - heard
                if silent > _SAID and not said:
                    logger.bind(rebuild=self._rebuild.name, what=self._waits()).warning("rebuild.waits")
                    said = True
                if silent > SILENCE:
                    raise SourceSilent(self._waits())

    def _waits(self) -> str:
        owner, own = self._rebuild.ended.producer(), self._database.service
        return (
            f"Nothing is heard of the snapshot that {owner} has to tell: a worker of {owner} has to run, and one of "
            f"{own}, which sends the order; kgl doctor says what keeps them from it. Ask again then: it goes on."
        )

    async def _read_live_and_swap(self, run: Run) -> Rebuilt:
        async with self._consumer(run, self._rebuild.live.topic) as consumer:
            await self._read_to(run, consumer, await self._bus.end_offsets(self._rebuild.live.topic.name))
            missing = await self._database.run((), state.check_complete, run)
            if missing:
                raise RebuildIncomplete(missing)

            async def finish(tx: Transaction, run: Run) -> Rebuilt:
                # the rest is read in transactions of its own, which touch nothing that this one has locked
                live = await state.stop_live(tx, run)
                async with asyncio.timeout(_STANDSTILL):
                    await self._read_to(run, consumer, live)
                return await state.swap(tx, run)

            return await self._database.run((), finish, run)

    async def _read_to(self, run: Run, consumer: Consumer, ends: Mapping[int, int]) -> None:
        topic = self._rebuild.live.topic.name
        while True:
            at = await self._database.run((), state.positions, (run, topic))
            if all(at.get(partition, end) >= end for partition, end in ends.items()):
                return
            await self._database.run((), state.keep, run)
            await self._read_more(run, consumer)

    @asynccontextmanager
    async def _consumer(self, run: Run, topic: Topic) -> AsyncIterator[Consumer]:
        async def load(partitions: frozenset[int]) -> Mapping[int, int]:
            known = await self._database.run((), state.positions, (run, topic.name))
            self._next.setdefault(topic.name, {}).update(known)
            return {partition: known[partition] for partition in partitions}

        consumer = self._bus.consumer(topic.name, run.generation, load)
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()

    async def _read_more(self, run: Run, consumer: Consumer) -> bool:
        """Whether there was anything that is for this run."""
        heard = False
        for polled in await consumer.poll(_BATCH, 1.0):
            at = self._next[polled.topic]
            end = polled.records[-1].offset + 1
            changes = await self._changes(run, polled)
            heard = heard or bool(changes)
            batch = Changes(polled.topic, polled.partition, at[polled.partition], end, changes)
            workspaces = sorted({w for change in changes for w in change.delivery.workspaces()})
            await self._database.run(workspaces, state.apply, (run, batch))
            at[polled.partition] = end
            await consumer.commit(polled.partition, end)
        return heard

    async def _changes(self, run: Run, polled: PartitionBatch) -> list[Change]:
        """Do the outside work of a poll, before its transaction."""
        changes = []
        for delivery in await self._decoded(polled):
            if delivery.unreadable is not None:
                logger.bind(rebuild=self._rebuild.name, error=delivery.unreadable).warning("rebuild.unreadable")
                if polled.topic == self._rebuild.replay.name and _may_be_of(run, delivery):
                    changes.append(Change(delivery, None))
            if delivery.unknown_version:
                logger.bind(rebuild=self._rebuild.name, key=delivery.key, error=NOT_YET).warning("rebuild.missing")
                changes.append(Change(delivery, None))
            event = delivery.event
            if event is None or (isinstance(event.data, SnapshotPart) and event.data.snapshot_id != run.snapshot_id):
                continue
            if isinstance(event.data, SnapshotEnd):
                changes.append(Change(delivery, None))
                continue
            try:
                read = self._rebuild.reads[type(event.data).event_type]
                changes.append(Change(delivery, await read(self._outside, event)))
            except JobFailed as failed:
                logger.bind(rebuild=self._rebuild.name, key=delivery.key, error=str(failed)).warning("rebuild.missing")
                changes.append(Change(delivery, None))
        return changes

    async def _decoded(self, polled: PartitionBatch) -> Sequence[Delivery]:
        decoder = self._rebuild.decoder(self._rebuild.replay)
        if polled.topic != self._rebuild.replay.name:
            decoder = self._rebuild.decoder(self._rebuild.live.topic)
        ids = [id for record in polled.records if (id := _event_id(record)) is not None]
        corrected = await self._database.run((), state.corrections, (self._rebuild.live.name, ids))
        return [decode(decoder, record, corrected.get(_event_id(record) or UUID(int=0))) for record in polled.records]


def _may_be_of(run: Run, unreadable: Delivery) -> bool:
    """Whether this is a part of the run's snapshot; what does not say of which one it is may be."""
    try:
        return bool(orjson.loads(unreadable.record.value)["snapshot_id"] == str(run.snapshot_id))
    except (ValueError, TypeError, LookupError):
        return True


async def rebuild_in_place(database: Database, rebuild: InPlace) -> Rebuilt:
    """Run it, and audit that it was run. Raises RebuildIncomplete."""
    try:
        keys = await rebuild.run()
    except RebuildIncomplete as incomplete:
        await database.run((), state.audit_rebuild, (rebuild.name, {}, len(incomplete.missing)))
        raise
    await database.run((), state.audit_rebuild, (rebuild.name, {"keys": keys}, 0))
    return Rebuilt(0, keys)


def _event_id(record: StoredRecord) -> UUID | None:
    try:
        return UUID(record.headers.get("ce_id", ""))
    except ValueError:
        return None
