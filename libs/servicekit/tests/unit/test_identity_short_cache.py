import asyncio

import pytest

from kgl_servicekit.identity.short_cache import ShortCache


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Maker:
    """Makes numbers, and counts how often."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.made = 0
        self.seconds = seconds
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self) -> tuple[int, float]:
        self.made += 1
        number = self.made
        await self.go.wait()
        return number, self.seconds


async def test_an_answer_is_kept_for_its_time_and_no_longer() -> None:
    clock, maker = Clock(), Maker()
    cache: ShortCache[int] = ShortCache(10, clock)
    assert [await cache.get(b"a", maker) for _ in range(3)] == [1, 1, 1]
    clock.now = 1.0
    assert await cache.get(b"a", maker) == 2
    assert await cache.get(b"b", maker) == 3


async def test_an_answer_without_time_is_not_kept() -> None:
    maker = Maker(0.0)
    cache: ShortCache[int] = ShortCache(10, Clock())
    assert [await cache.get(b"a", maker) for _ in range(2)] == [1, 2]
    assert len(cache) == 0


async def test_the_oldest_answers_make_room() -> None:
    cache: ShortCache[int] = ShortCache(2, Clock())
    maker = Maker()
    for key in (b"a", b"b", b"c"):
        await cache.get(key, maker)
    assert len(cache) == 2
    assert await cache.get(b"a", maker) == 4


async def test_a_failure_reaches_all_who_wait_and_is_not_kept() -> None:
    tries = 0

    async def fail() -> tuple[int, float]:
        nonlocal tries
        tries += 1
        await asyncio.sleep(0)
        raise ValueError("no")

    cache: ShortCache[int] = ShortCache(2, Clock())
    found = await asyncio.gather(*(cache.get(b"a", fail) for _ in range(5)), return_exceptions=True)
    assert [type(each) for each in found] == [ValueError] * 5
    assert tries == 1
    with pytest.raises(ValueError, match="no"):
        await cache.get(b"a", fail)
    assert tries == 2


async def test_a_waiter_that_goes_away_leaves_the_others_their_answer() -> None:
    maker = Maker()
    maker.go.clear()
    cache: ShortCache[int] = ShortCache(2, Clock())
    impatient = asyncio.ensure_future(cache.get(b"a", maker))
    patient = asyncio.ensure_future(cache.get(b"a", maker))
    await asyncio.sleep(0)
    impatient.cancel()
    maker.go.set()
    assert await patient == 1
    with pytest.raises(asyncio.CancelledError):
        await impatient
