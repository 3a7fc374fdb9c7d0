"""Stops a subscription that refuses too much: a bug of ours must not turn a whole topic into dead letters.

It is open for a pause, in which nothing is read. Then what was counted is forgotten: while the bug is there, each
pause is followed by as many dead letters as trip it again, and by whatever is healthy between them.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

WINDOW = 100


class TooManyRefused(Exception):
    """More than the allowed share of the last events would be refused; nothing of this transaction is committed."""


class Breaker:
    """Counts refused events among the last 100 handled ones of a subscription in this process."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._batches: deque[tuple[int, int]] = deque()
        self._coming: dict[int, tuple[int, int]] = {}

    @contextmanager
    def settling(self, partition: int) -> Iterator[None]:
        """While a transaction settles events of a partition: if it ends well, what was checked in it counts."""
        try:
            yield
            self._count(*self._coming.get(partition, (0, 0)))
        finally:
            self._coming.pop(partition, None)

    def check(self, partition: int, handled: int, refused: int) -> None:
        """Raise TooManyRefused if these events, with those before them and those of other partitions, pass the share.

        Within `settling`; a transaction that is tried again checks again.
        """
        self._coming[partition] = (handled, refused)
        if not refused:
            return
        counted = [*self._batches, *self._coming.values()]
        all_handled, all_refused = (sum(numbers) for numbers in zip(*counted, strict=True))
        if all_refused > self._share * max(WINDOW, all_handled):
            raise TooManyRefused(f"{all_refused} of the last {all_handled} events were refused")

    def forget(self) -> None:
        """Begin anew."""
        self._batches.clear()

    def _count(self, handled: int, refused: int) -> None:
        """Take settled events in, and leave out those that are further back than the window."""
        if not handled:  # a topic of which nothing is wanted would be remembered for ever
            return
        self._batches.append((handled, refused))
        while sum(handled for handled, _ in self._batches) - self._batches[0][0] >= WINDOW:
            self._batches.popleft()
