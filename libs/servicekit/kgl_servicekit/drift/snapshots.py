"""Drift between services: the owner of a source tells it anew, as for a rebuild, and each part is compared.

The owner commits the events of a key before it tells the key's state, and sends both in that order. So when the live
subscription has read to where its topic ended after the last part was told, whatever was told has been heard of; what
is newer than that, or still to be done by a job, is left out by the comparison itself.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from kgl_contracts.operations import SnapshotEnd, SnapshotPart
from kgl_servicekit.bus.port import Bus, Consumer
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.drift.check import ByHand, Item, by_workspace, workspaces
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.events.delivery import decode
from kgl_servicekit.events.lag import lags
from kgl_servicekit.events.rebuild import SILENCE, Rebuild, SourceSilent
from kgl_servicekit.ids import uuid7

Compare = Callable[[Transaction, Sequence[Any]], Awaitable[Sequence[tuple[UUID, str, Any]]]]
"""Which of these parts, all of the transaction's workspace, differ from what is derived: key, state, part."""

_BATCH = 200
_PATIENCE = SILENCE  # for the next part, and for the live subscription to catch up
_YOUNG = timedelta(hours=1)
STRANGER = "its source does not know it"


class Behind(Unavailable, code="subscription_behind", status=503):
    """The live subscription is behind; what differs may only be late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotCheck:
    """Compares what a snapshot tells with the tables of this service.

    compare   the parts of one workspace
    here      the next keys of the workspace after one: those that the source does not tell of are strangers, unless
              they came within the hour (keys are UUIDv7)
    mend      repairs items of one workspace; `source` is the part, and None of a stranger
    """

    name: str
    database: Database
    bus: Bus
    rebuild: Rebuild
    compare: Compare
    here: Callable[[Transaction, UUID, int], Awaitable[Sequence[UUID]]]
    mend: Callable[[Transaction, Sequence[Item]], Awaitable[int]]
    by_hand: ByHand = field(default_factory=dict)

    async def look(self) -> AsyncIterator[Sequence[Item]]:
        snapshot, told = uuid7(), set[tuple[UUID, str]]()
        async with self._reading(snapshot) as consumer:
            async for parts in self._parts(consumer, snapshot):
                for workspace, mine in parts.items():
                    told.update((workspace, part.key) for part in mine)
                    yield await self._compared(workspace, mine)
        async for workspace in workspaces(self.database):
            async for keys in self._keys(workspace):
                yield [
                    Item(workspace, str(key), STRANGER)
                    for key in keys
                    if (workspace, str(key)) not in told and not _is_young(key, snapshot)
                ]

    async def again(self, items: Sequence[Item]) -> Sequence[Item]:
        await self._catch_up()
        found: list[Item] = []
        for workspace, mine in by_workspace(items).items():
            parts = [item.source for item in mine if item.source is not None]
            for first in range(0, len(parts), _BATCH):
                found += await self._compared(workspace, parts[first : first + _BATCH])
            strangers = {item for item in mine if item.source is None}
            if strangers:
                there = {str(key) async for keys in self._keys(workspace) for key in keys}
                found += [item for item in strangers if item.key in there]
        return found

    async def repair(self, items: Sequence[Item]) -> int:
        done = 0
        for workspace, mine in by_workspace(items).items():
            for first in range(0, len(mine), _BATCH):
                done += await self.database.run(workspace, self.mend, mine[first : first + _BATCH])
        return done

    async def _compared(self, workspace: UUID, parts: Sequence[Any]) -> list[Item]:
        found = await self.database.run(workspace, self.compare, parts)
        return [Item(workspace, str(key), state, part) for key, state, part in found]

    async def _keys(self, workspace: UUID) -> AsyncIterator[Sequence[UUID]]:
        async def read(tx: Transaction, after: UUID) -> Sequence[UUID]:
            return await self.here(tx, after, _BATCH)

        after = UUID(int=0)
        while keys := await self.database.run(workspace, read, after):
            yield keys
            after = keys[-1]

    @asynccontextmanager
    async def _reading(self, snapshot: UUID) -> AsyncIterator[Consumer]:
        """A group of our own, from where the topic ends now; then the order."""
        topic, group = self.rebuild.replay.name, f"{self.rebuild.live.name}@drift-{snapshot}"
        ends = await self.bus.end_offsets(topic)

        async def from_here(partitions: frozenset[int]) -> Mapping[int, int]:
            return {partition: ends[partition] for partition in partitions}

        async def order(tx: Transaction, snapshot: UUID) -> None:
            await tx.emit(self.rebuild.request(snapshot), instance=True)

        consumer = self.bus.consumer(topic, group, from_here)
        try:
            await consumer.start()
            await self.database.run((), order, snapshot)
            yield consumer
        finally:
            await consumer.stop()
            await self.bus.forget_group(topic, group)

    async def _parts(self, consumer: Consumer, snapshot: UUID) -> AsyncIterator[Mapping[UUID, list[Any]]]:
        """The parts of this snapshot by workspace, each once, until all are there."""
        decoder = self.rebuild.decoder(self.rebuild.replay)
        seen: set[tuple[UUID | None, str]] = set()
        expected, since = None, time.monotonic()
        while expected is None or len(seen) < expected:
            parts: dict[UUID, list[Any]] = {}
            for polled in await consumer.poll(_BATCH, 1.0):
                for record in polled.records:
                    event = decode(decoder, record).event
                    if event is None or not isinstance(event.data, SnapshotPart) or event.data.snapshot_id != snapshot:
                        continue
                    since = time.monotonic()
                    workspace = event.envelope.workspace_id
                    if isinstance(event.data, SnapshotEnd):
                        expected = event.data.count
                    elif workspace is not None and (place := (workspace, event.data.key)) not in seen:
                        seen.add(place)
                        parts.setdefault(workspace, []).append(event.data)
                await consumer.commit(polled.partition, polled.records[-1].offset + 1)
            if time.monotonic() - since > _PATIENCE:
                raise SourceSilent(retry_after=60)
            yield parts

    async def _catch_up(self) -> None:
        """Until the live subscription has read what its topic has now."""
        ends = await self.bus.end_offsets(self.rebuild.live.topic.name)
        until = time.monotonic() + _PATIENCE
        while True:
            (lag,) = await lags(self.database, self.bus, [self.rebuild.live])
            if all(lag.at.get(partition, end) >= end for partition, end in ends.items()):
                return
            if time.monotonic() > until:
                raise Behind(retry_after=60)
            await asyncio.sleep(0.1)


def _is_young(key: UUID, snapshot: UUID) -> bool:
    """Whether an id of version 7 was made within the hour before that of the snapshot, or later."""
    return (key.int >> 80) > (snapshot.int >> 80) - _YOUNG // timedelta(milliseconds=1)
