"""Loops that do something again and again."""

import asyncio

import pytest

from kgl_servicekit.errors import Unavailable
from kgl_servicekit.testing.events import running
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.waiting import repeat


async def test_an_outage_is_waited_for_and_anything_else_ends_the_loop() -> None:
    ends: list[Exception] = [Unavailable("out", retry_after=1), Unavailable("out", retry_after=1), KeyError("a bug")]
    calls = 0

    async def act() -> None:
        nonlocal calls
        calls += 1
        raise ends[calls - 1]

    with pytest.raises(KeyError, match="a bug"):
        await repeat(act, 0.0, postponed="test.postponed")
    assert calls == 3


async def test_the_first_time_may_be_later_and_it_goes_on_until_it_is_cancelled() -> None:
    times: list[float] = []
    begun = asyncio.get_running_loop().time()

    async def act() -> None:
        times.append(asyncio.get_running_loop().time() - begun)

    async def thrice() -> bool:
        return len(times) >= 3

    async with running(lambda: repeat(act, 0.01, postponed="test.postponed", first=0.05)):
        await eventually(thrice)
    assert times[0] >= 0.05
