"""Who may have killed the process: while one event is alone in flight, no other handler runs beside it.

Without that, an event of one subscription would be blamed for the deaths that another one's event causes, or a job
that has seen several workers end.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """Many handlers at a time, or one that is alone. Whoever wants to be alone is let in before newcomers."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._left = asyncio.Event()
        self._inside = 0

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Beside others."""
        async with self._turn:
            self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            self._left.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """With nobody else; waits until all have left."""
        async with self._turn:
            while self._inside:
                self._left.clear()
                await self._left.wait()
            yield


HANDLERS = Gate()  # of the process: that is what dies
