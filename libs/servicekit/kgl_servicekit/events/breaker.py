"""Stops a subscription that refuses too much: a bug of ours must not turn a whole topic into dead letters."""

from collections import deque

WINDOW = 100


class TooManyRefused(Exception):
    """More than the allowed share of the last events was refused; nothing of the batch is committed."""


class Breaker:
    """Counts refused events among the last 100 handled ones of a subscription in this process."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._batches: deque[tuple[int, int]] = deque()
        self._handled = 0
        self._refused = 0

    def check(self, handled: int, refused: int) -> None:
        """Raise TooManyRefused if these events, with those before them, pass the share."""
        if refused and self._refused + refused > self._share * max(WINDOW, self._handled + handled):
            raise TooManyRefused(f"{self._refused + refused} of the last {self._handled + handled} events were refused")

    def count(self, handled: int, refused: int) -> None:
        """Take committed events in, and forget those that are further back than the window."""
        self._batches.append((handled, refused))
        self._handled += handled
        self._refused += refused
        while self._handled - self._batches[0][0] >= WINDOW:
            old_handled, old_refused = self._batches.popleft()
            self._handled -= old_handled
            self._refused -= old_refused
