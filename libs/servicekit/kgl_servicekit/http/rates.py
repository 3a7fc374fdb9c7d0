"""Rate limits: a token bucket for each caller, in this process."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_MOST_BUCKETS = 50_000


@dataclass(frozen=True, slots=True)
class Spent:
    """A caller's bucket after a request; `reset` and `wait` in seconds, `wait` is 0 when it was allowed."""

    limit: int
    remaining: int
    reset: float
    wait: float


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class RateLimiter:
    """Buckets of `per_minute` tokens that fill up in a minute. The longest unused are forgotten: they are full."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = per_minute
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def spend(self, name: str, cost: int = 1) -> Spent:
        """Take `cost` tokens, or none if there are too few."""
        now, rate = self._clock(), self._limit / 60
        bucket = self._buckets.pop(name, None) or _Bucket(self._limit, now)
        bucket.tokens = min(self._limit, bucket.tokens + (now - bucket.at) * rate)
        bucket.at = now
        self._buckets[name] = bucket
        if len(self._buckets) > _MOST_BUCKETS:
            self._buckets.popitem(last=False)
        wait = max(0.0, (cost - bucket.tokens) / rate)
        if wait == 0:
            bucket.tokens -= cost
        return Spent(self._limit, int(bucket.tokens), (self._limit - bucket.tokens) / rate, wait)
