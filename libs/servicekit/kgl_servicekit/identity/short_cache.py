"""Answers that may be a moment old: bounded, dropped on an event, and asked for once however many wait."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from kgl_servicekit.identity.cache_meter import CacheMeter

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Kept(Generic[V]):
    value: V
    until: float


class ShortCache(Generic[V]):
    """Keeps each answer for as long as its maker says, and makes it once at a time for each key.

    Failures are not kept. A waiter that is cancelled leaves the others their answer. `name` is that of its
    metrics; the oldest of more than `size` answers makes room.
    """

    def __init__(self, name: str, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._clock = clock
        self._kept: OrderedDict[bytes, _Kept[V]] = OrderedDict()
        self._making: dict[bytes, asyncio.Task[V]] = {}
        self._meter = CacheMeter(name)

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        """Keep nothing of what was made or begun before: who asks from now on gets an answer begun from now on."""
        self._kept.clear()
        self._making.clear()
        self._meter.invalidated()
        self._meter.holds(0)

    async def get(self, key: bytes, make: Callable[[], Awaitable[tuple[V, float]]]) -> V:
        """The kept answer, or a new one; `make` gives it with the seconds, from its beginning, that it is good for."""
        kept = self._kept.get(key)
        if kept is not None and self._clock() < kept.until:
            self._meter.hit()
            return kept.value
        task = self._making.get(key)
        if task is None:
            self._meter.miss()
            task = self._making[key] = asyncio.ensure_future(self._make(key, make))
            task.add_done_callback(lambda done: self._made(key, done))
        else:
            self._meter.shared()
        return await asyncio.shield(task)

    def _made(self, key: bytes, task: asyncio.Task[V]) -> None:
        if self._making.get(key) is task:
            del self._making[key]
        if not task.cancelled():
            task.exception()  # the waiters have it; seen here too, in case that they were all cancelled

    async def _make(self, key: bytes, make: Callable[[], Awaitable[tuple[V, float]]]) -> V:
        begun = self._clock()
        value, seconds = await make()
        if self._making.get(key) is not asyncio.current_task():
            return value  # dropped while it was made: what it was made from may be what is not true any more
        self._kept.pop(key, None)
        if seconds > 0:
            self._kept[key] = _Kept(value, begun + seconds)
        self._make_room()
        return value

    def _make_room(self) -> None:
        """Drop the oldest answers while they are over, or too many; so what nobody asks for again is not kept."""
        now = self._clock()
        while self._kept and (len(self._kept) > self._size or next(iter(self._kept.values())).until <= now):
            self._kept.popitem(last=False)
        self._meter.holds(len(self._kept))
