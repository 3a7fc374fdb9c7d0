"""Waiting in tests: bounded polling, never a sleep of a guessed length."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(
    probe: Callable[[], Awaitable[T]], *, within: float = 10.0, every: float = 0.02, what: str = "not so"
) -> T:
    """The first truthy answer of `probe`; AssertionError with `what` and its last answer after `within` seconds."""
    until = time.monotonic() + within
    while True:
        answer = await probe()
        if answer:
            return answer
        if time.monotonic() > until:
            raise AssertionError(f"{what} within {within} s; last answer: {answer!r}")
        await asyncio.sleep(every)
