"""Answers that may be a moment old: bounded, and asked for once however many wait."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Kept(Generic[V]):
    value: V
    until: float


class ShortCache(Generic[V]):
    """Keeps each answer for as long as its maker says, and makes it once at a time for each key.

    Failures are not kept. A waiter that is cancelled leaves the others their answer.
    """

    def __init__(self, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._clock = clock
        self._kept: OrderedDict[bytes, _Kept[V]] = OrderedDict()
        self._making: dict[bytes, asyncio.Task[V]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    async def get(self, key: bytes, make: Callable[[], Awaitable[tuple[V, float]]]) -> V:
        """The kept answer, or a new one; `make` gives it with the seconds for which it may be kept."""
        kept = self._kept.get(key)
        if kept is not None and self._clock() < kept.until:
            return kept.value
        task = self._making.get(key)
        if task is None:
            task = self._making[key] = asyncio.ensure_future(self._make(key, make))
            task.add_done_callback(lambda done: self._made(key, done))
        return await asyncio.shield(task)

    def _made(self, key: bytes, task: asyncio.Task[V]) -> None:
        del self._making[key]
        if not task.cancelled():
            task.exception()  # the waiters have it; seen here too, in case that they were all cancelled

    async def _make(self, key: bytes, make: Callable[[], Awaitable[tuple[V, float]]]) -> V:
        value, seconds = await make()
        self._kept.pop(key, None)
        if seconds > 0:
            self._kept[key] = _Kept(value, self._clock() + seconds)
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return value
