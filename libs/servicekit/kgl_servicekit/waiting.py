"""Waiting that can be cancelled: `asyncio.wait_for` of Python 3.11 may swallow a cancellation."""

import asyncio
from collections.abc import Awaitable, Callable

from loguru import logger

from kgl_servicekit.errors import Unavailable


async def wait_until_set(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event; False when it was not set within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def repeat(
    act: Callable[[], Awaitable[object]], every: float, *, postponed: str, level: str = "WARNING", first: float = 0.0
) -> None:
    """Act after `first` seconds, and `every` seconds after each end, until cancelled.

    An outage is logged under the name `postponed` and waited for; whatever else is raised ends it.
    """
    await asyncio.sleep(first)
    while True:
        try:
            await act()
        except Unavailable as out:
            logger.bind(error=str(out)).log(level, postponed)
        await asyncio.sleep(every)
