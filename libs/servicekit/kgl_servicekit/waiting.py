"""Waiting that can be cancelled: `asyncio.wait_for` of Python 3.11 may swallow a cancellation."""

import asyncio


async def wait_until_set(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event; False when it was not set within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
