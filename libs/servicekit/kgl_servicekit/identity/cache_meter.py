"""What a cache tells of itself; the labels are looked up once, as a lookup costs as much as a hit."""

from kgl_servicekit.metrics import CACHE_ENTRIES, CACHE_INVALIDATIONS, CACHE_REQUESTS


class CacheMeter:
    """Counts hits, misses, questions shared with one that is under way, invalidations, and entries.

    Caches of one name in one process add up.
    """

    def __init__(self, name: str) -> None:
        self.hit = CACHE_REQUESTS.labels(name, "hit").inc
        self.miss = CACHE_REQUESTS.labels(name, "miss").inc
        self.shared = CACHE_REQUESTS.labels(name, "shared").inc
        self.invalidated = CACHE_INVALIDATIONS.labels(name).inc
        self._entries = CACHE_ENTRIES.labels(name)
        self._counted = 0

    def holds(self, entries: int) -> None:
        """The cache has so many entries now."""
        self._entries.inc(entries - self._counted)
        self._counted = entries
