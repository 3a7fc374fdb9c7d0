"""How a process of ours runs its loop, and how it is stopped."""

import asyncio
import gc
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


class Stopped(Exception):
    """A signal ended the work before its end; `status` is the exit status that a shell expects of that."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"stopped by {number.name} before it was done")
        self.status = 128 + number


async def until_stopped(work: Coroutine[Any, Any, T]) -> T:
    """What the work answers. The first SIGTERM or SIGINT cancels it; Stopped is raised when it has ended by that."""
    task = asyncio.ensure_future(work)
    by: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        by.append(number)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not by:
            raise
        raise Stopped(by[0]) from None


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, on uvloop, with a garbage collector that looks seldom.

    A batch makes thousands of small objects that reference counts free; with the default thresholds the collector
    walks all that was imported for nothing, which was measured at a third of the CPU of a hop.
    """
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    return uvloop.run(work)
