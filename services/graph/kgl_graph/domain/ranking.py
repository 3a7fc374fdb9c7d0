"""Reciprocal rank fusion (Cormack, Clarke, Buettcher, SIGIR 2009), and snippets."""

import re
from collections.abc import Sequence
from uuid import UUID

K = 60
_SNIPPET = 240
_WORD = re.compile(r"\w+")


def fuse(rankings: Sequence[Sequence[UUID]]) -> list[tuple[UUID, float]]:
    """Ids by the sum of 1 / (60 + rank) over the rankings, best first; ties by id."""
    scores: dict[UUID, float] = {}
    for ranking in rankings:
        for rank, found in enumerate(ranking, 1):
            scores[found] = scores.get(found, 0.0) + 1 / (K + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def snippet(text: str, query: str, length: int = _SNIPPET) -> tuple[str, int, list[tuple[int, int]]]:
    """The part of a text with most words of the query: (snippet, its start, ranges in it to highlight)."""
    stems = {word.casefold()[:5] for word in _WORD.findall(query) if len(word) > 2}
    hits = [m.span() for m in _WORD.finditer(text) if m[0].casefold()[:5] in stems]
    start = max((a for a, _ in hits), key=lambda a: (_within(hits, a, length), -a), default=0)
    start = max(0, min(start - length // 6, len(text) - length))
    if start > 0:
        start = text.find(" ", start) + 1 or start
    cut = text[start : start + length]
    return cut, start, [(a - start, b - start) for a, b in hits if a >= start and b <= start + len(cut)]


def _within(hits: Sequence[tuple[int, int]], start: int, length: int) -> int:
    return sum(start <= a and b <= start + length for a, b in hits)
