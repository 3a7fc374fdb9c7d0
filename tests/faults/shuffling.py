"""A bus whose producer sends some events late: others pass them, of other keys and of their own."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from kgl_servicekit.bus.port import Ack, Bus, Producer, Record
from tests.faults.contract import ITEMS, TAKEN

_LATEST = 0.3


class ShufflingBus:
    """As the bus behind it, but for a share of the events of the small service."""

    def __init__(self, bus: Bus, share: float) -> None:
        self._bus = bus
        self._share = share

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    def producer(self) -> Producer:
        return _Shuffling(self._bus, self._share)


class _Shuffling:
    """Acknowledges at once what it sends a little later: only where no process is killed."""

    def __init__(self, bus: Bus, share: float) -> None:
        self._bus = bus
        self._share = share
        self._inner = bus.producer()
        self._late: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self._inner.start()

    async def stop(self) -> None:
        await asyncio.gather(*self._late, return_exceptions=True)
        await self._inner.stop()

    async def send(self, records: Sequence[Record]) -> list[Ack]:
        late = [each.topic in (ITEMS.name, TAKEN.name) and random.random() < self._share for each in records]
        acks = iter(await self._inner.send([each for each, is_late in zip(records, late, strict=True) if not is_late]))
        for each, is_late in zip(records, late, strict=True):
            if is_late:
                task = asyncio.create_task(self._send_late(each))
                self._late.add(task)
                task.add_done_callback(self._late.discard)
        return [Ack(each.topic, 0, -1) if is_late else next(acks) for each, is_late in zip(records, late, strict=True)]

    async def _send_late(self, record: Record) -> None:
        await asyncio.sleep(random.uniform(0.05, _LATEST))
        await self._inner.send([record])
