"""Answers that are kept for a moment: for how long, for how many, and when not."""

import asyncio

import pytest
from prometheus_client import REGISTRY

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
    cache: ShortCache[int] = ShortCache("test", 10, clock)
    assert [await cache.get(b"a", maker) for _ in range(3)] == [1, 1, 1]
    clock.now = 1.0
    assert await cache.get(b"a", maker) == 2
    assert await cache.get(b"b", maker) == 3


async def test_an_answer_without_time_is_not_kept() -> None:
    maker = Maker(0.0)
    cache: ShortCache[int] = ShortCache("test", 10, Clock())
    assert [await cache.get(b"a", maker) for _ in range(2)] == [1, 2]
    assert len(cache) == 0


async def test_the_oldest_answers_make_room() -> None:
    cache: ShortCache[int] = ShortCache("test", 2, Clock())
    maker = Maker()
    for key in (b"a", b"b", b"c"):
        await cache.get(key, maker)
    assert len(cache) == 2
    assert await cache.get(b"a", maker) == 4


async def test_answers_that_are_over_do_not_wait_for_the_cache_to_be_full() -> None:
    clock, maker = Clock(), Maker()
    cache: ShortCache[int] = ShortCache("test", 100, clock)
    for number in range(50):
        await cache.get(b"%d" % number, maker)
        clock.now += 0.25  # each is good for a second
    assert len(cache) == 4


async def test_a_failure_reaches_all_who_wait_and_is_not_kept() -> None:
    tries = 0

    async def fail() -> tuple[int, float]:
        nonlocal tries
        tries += 1
        await asyncio.sleep(0)
        raise ValueError("no")

    cache: ShortCache[int] = ShortCache("test", 2, Clock())
    found = await asyncio.gather(*(cache.get(b"a", fail) for _ in range(5)), return_exceptions=True)
    assert [type(each) for each in found] == [ValueError] * 5
    assert tries == 1
    with pytest.raises(ValueError, match="no"):
        await cache.get(b"a", fail)
    assert tries == 2


async def test_a_waiter_that_goes_away_leaves_the_others_their_answer() -> None:
    maker = Maker()
    maker.go.clear()
    cache: ShortCache[int] = ShortCache("test", 2, Clock())
    impatient = asyncio.ensure_future(cache.get(b"a", maker))
    patient = asyncio.ensure_future(cache.get(b"a", maker))
    await asyncio.sleep(0)
    impatient.cancel()
    maker.go.set()
    assert await patient == 1
    with pytest.raises(asyncio.CancelledError):
        await impatient


async def test_an_answer_is_good_from_when_it_was_asked_for_not_from_when_it_came() -> None:
    clock = Clock()

    async def slowly() -> tuple[float, float]:
        clock.now += 0.5
        return clock.now, 1.0

    cache: ShortCache[float] = ShortCache("test", 2, clock)
    assert await cache.get(b"a", slowly) == 0.5
    clock.now = 0.99
    assert await cache.get(b"a", slowly) == 0.5
    clock.now = 1.0
    assert await cache.get(b"a", slowly) == 1.5


async def test_what_was_kept_is_dropped_at_once() -> None:
    maker = Maker()
    cache: ShortCache[int] = ShortCache("test", 2, Clock())
    assert await cache.get(b"a", maker) == 1
    cache.clear()
    assert len(cache) == 0
    assert await cache.get(b"a", maker) == 2


async def test_an_answer_that_was_being_made_while_all_was_dropped_is_neither_kept_nor_shared() -> None:
    maker = Maker()
    maker.go.clear()
    cache: ShortCache[int] = ShortCache("test", 2, Clock())
    before = asyncio.ensure_future(cache.get(b"a", maker))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert maker.made == 1
    cache.clear()
    after = asyncio.ensure_future(cache.get(b"a", maker))
    await asyncio.sleep(0)
    maker.go.set()
    assert await before == 1
    assert await after == 2
    assert await cache.get(b"a", maker) == 2
    assert maker.made == 2


async def test_an_answer_that_is_dropped_while_nobody_else_asks_is_not_kept_either() -> None:
    maker = Maker()
    maker.go.clear()
    cache: ShortCache[int] = ShortCache("test", 2, Clock())
    before = asyncio.ensure_future(cache.get(b"a", maker))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    cache.clear()
    maker.go.set()
    assert await before == 1
    assert len(cache) == 0
    assert await cache.get(b"a", maker) == 2


def measured(metric: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(metric, {"cache": "measured", **labels}) or 0.0


async def test_hits_misses_shared_questions_drops_and_entries_are_counted() -> None:
    clock, maker = Clock(), Maker()
    cache: ShortCache[int] = ShortCache("measured", 2, clock)
    other: ShortCache[int] = ShortCache("measured", 2, clock)
    maker.go.clear()
    asked = [asyncio.ensure_future(cache.get(b"a", maker)) for _ in range(3)]
    await asyncio.sleep(0)
    maker.go.set()
    await asyncio.gather(*asked)
    await cache.get(b"a", maker)
    for key in (b"b", b"c"):
        await cache.get(key, maker)
    await other.get(b"a", maker)
    requests = "kgl_cache_requests_total"
    outcomes = {outcome: measured(requests, outcome=outcome) for outcome in ("hit", "miss", "shared")}
    assert outcomes == {"hit": 1, "miss": 4, "shared": 2}
    assert measured("kgl_cache_entries") == 3
    cache.clear()
    assert measured("kgl_cache_entries") == 1
    assert measured("kgl_cache_invalidations_total") == 1
