"""A bus whose producer sends some events late: others pass them, of other keys and of their own."""

import asyncio
import itertools
import random
from collections.abc import Sequence
from typing import Any

from kgl_servicekit.bus.port import Ack, Bus, Producer, Record, SendFailed
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
    """Sends some of each call after the others, in any order; what the bus has taken is acknowledged, and no more."""

    def __init__(self, bus: Bus, share: float) -> None:
        self._share = share
        self._inner = bus.producer()

    async def start(self) -> None:
        await self._inner.start()

    async def stop(self) -> None:
        await self._inner.stop()

    async def send(self, records: Sequence[Record]) -> list[Ack]:
        late = [each.topic in (ITEMS.name, TAKEN.name) and random.random() < self._share for each in records]
        in_time = [place for place, is_late in enumerate(late) if not is_late]
        later = [place for place, is_late in enumerate(late) if is_late]
        acks: dict[int, Ack] = {}
        await self._send(records, in_time, acks)
        if later:
            random.shuffle(later)
            await asyncio.sleep(random.uniform(0.05, _LATEST))
            await self._send(records, later, acks)
        return [acks[place] for place in range(len(records))]

    async def _send(self, records: Sequence[Record], places: Sequence[int], acks: dict[int, Ack]) -> None:
        try:
            taken: Sequence[Ack] = await self._inner.send([records[place] for place in places])
        except SendFailed as failed:
            acks.update(zip(places, failed.acked, strict=False))
            before = list(itertools.takewhile(lambda ack: ack is not None, map(acks.get, range(len(records)))))
            raise SendFailed(str(failed), [ack for ack in before if ack], retryable=failed.retryable) from failed
        acks.update(zip(places, taken, strict=True))
