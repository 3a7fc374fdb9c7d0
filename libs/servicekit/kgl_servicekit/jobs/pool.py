"""The slots of one kind of job in one process, and its pause while something that it needs is out."""

import time
from collections.abc import Callable

from kgl_servicekit.jobs.declare import JobHandler
from kgl_servicekit.jobs.line import Asked

BULK_SHARE = 4
"""Of so many claims of a kind one takes bulk jobs first, so that interactive ones never starve them."""

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 5.0


class Pool:
    """How many jobs of a kind this process may claim now, and of which class first."""

    def __init__(self, handler: JobHandler, clock: Callable[[], float] = time.monotonic) -> None:
        self.handler = handler
        self._clock = clock
        self._free = list(range(handler.concurrency))
        self._claims = 0
        self.more = True
        """Whether more may wait than was claimed, so that a slot that gets free is worth another look."""
        self._pause = 0.0
        self._paused_until = 0.0

    @property
    def paused(self) -> bool:
        return self._paused_until > self._clock()

    def ask(self) -> Asked | None:
        """What to claim now; None for nothing."""
        most = self._room()
        if most == 0:
            return None
        bulk = self._claims % BULK_SHARE == BULK_SHARE - 1
        return Asked(
            kind=self.handler.data.kind,
            first="bulk" if bulk else "interactive",
            most=most,
            lease=self.handler.lease,
        )

    def claimed(self, count: int, most: int) -> None:
        """A claim of up to `most` took so many. The share of bulk goes by those that took something."""
        self._claims += bool(count)
        self.more = count == most

    def take(self) -> int:
        """A free slot's number."""
        return self._free.pop()

    def release(self, slot: int) -> None:
        self._free.append(slot)

    def pause(self) -> float:
        """Claim nothing for a while, twice as long as the last time; the seconds that are left.

        Jobs that were under way when the outage began meet it too: they lengthen nothing.
        """
        now = self._clock()
        if self._paused_until <= now:
            self._pause = min(_LONGEST_PAUSE, self._pause * 2 or _FIRST_PAUSE)
            self._paused_until = now + self._pause
        return self._paused_until - now

    def resume(self) -> None:
        """A job got through: the outage is over."""
        self._pause = self._paused_until = 0.0

    def _room(self) -> int:
        if self.paused:
            return 0
        if self._pause:  # one job tries whether the outage is over
            return int(len(self._free) == self.handler.concurrency)
        return len(self._free)
