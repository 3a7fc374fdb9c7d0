"""The phrases that a document keeps coming back to."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from kgl_client.document import KnownEntity
from kgl_reader.rules.gazetteer import Gazetteer
from kgl_reader.rules.model import Occurrence
from kgl_reader.rules.outline import Outline
from kgl_reader.rules.words import WORD, function_words, is_weak, names_something, stem

TOPIC = "topic"
MOST_PHRASES = 8
_MOST_SINGLE = 3
_LONGEST = 3
_BY_LENGTH = (0.0, 1.0, 1.8, 2.0)
_LONGEST_WORD = 40
_VERSION = re.compile(r"[A-Za-z]\d+\w*")
_READ = 200_000
_OPENING = 1_500
_ONCE = 1.2
_OFTEN = 3


@dataclass(frozen=True, slots=True)
class KeyPhrase:
    """A phrase in all its spellings, the most frequent first, and a weight above 0."""

    names: tuple[str, ...]
    weight: float

    @property
    def name(self) -> str:
        """The spelling that the document uses most."""
        return self.names[0]


@dataclass(slots=True)
class _Candidate:
    surfaces: Counter[str] = field(default_factory=Counter)
    first: int = 0
    in_heading: bool = False

    @property
    def count(self) -> int:
        return self.surfaces.total()

    @property
    def is_single(self) -> bool:
        """Whether it comes but once, and not in a heading."""
        return self.count == 1 and not self.in_heading


_Key = tuple[str, ...]
_Run = list[tuple[str, int, int]]


def key_phrases(outline: Outline) -> list[KeyPhrase]:
    """Return at most 8 phrases of one to three words, the weightiest first.

    Where none comes back, and none stands in a heading, up to 3 that come once. Only the first 200,000
    characters are read.
    """
    candidates = _candidates(outline)
    repeated = _weights({key: candidate for key, candidate in candidates.items() if not candidate.is_single})
    if repeated:
        return _choose(candidates, repeated, MOST_PHRASES)
    return _choose(candidates, _weights(candidates), _MOST_SINGLE)


def _choose(candidates: dict[_Key, _Candidate], weights: dict[_Key, float], most: int) -> list[KeyPhrase]:
    chosen: dict[_Key, KeyPhrase] = {}
    for key in sorted(weights, key=lambda key: (-weights[key], candidates[key].first, key)):
        if len(chosen) == most:
            break
        if not any(_overlap(key, other, candidates[key].count) for other in chosen):
            spellings = tuple(surface for surface, _ in candidates[key].surfaces.most_common())
            chosen[key] = KeyPhrase(spellings, weights[key])
    return list(chosen.values())


def occurrences(phrases: list[KeyPhrase], text: str) -> list[Occurrence]:
    """Return where the phrases stand in the text, as topics."""
    topics = [KnownEntity(name=phrase.name, type=TOPIC, aliases=phrase.names[1:]) for phrase in phrases]
    return Gazetteer(topics).find(text)


def _candidates(outline: Outline) -> dict[_Key, _Candidate]:
    candidates: defaultdict[_Key, _Candidate] = defaultdict(_Candidate)
    words = (found[0].lower() for found in WORD.finditer(outline.plain, 0, _READ))
    ignored = function_words(words)
    for block in outline.speaking():
        for run in _runs(outline, block.start, min(block.end, _READ), ignored):
            for key, start, end in _phrases(run):
                candidate = candidates[key]
                if not candidate.surfaces:
                    candidate.first = start
                candidate.surfaces[" ".join(outline.text[start:end].split())] += 1
                candidate.in_heading |= block.kind == "heading"
    return candidates


def _runs(outline: Outline, start: int, end: int, ignored: frozenset[str]) -> Iterator[_Run]:
    """Yield the longest sequences of words with meaning that only blanks divide."""
    run: _Run = []
    for found in WORD.finditer(outline.plain, start, end):
        word = found[0]
        if run and not outline.text[run[-1][2] : found.start()].isspace():
            yield run
            run = []
        if _has_meaning(word, ignored):
            run.append((stem(word), found.start(), found.end()))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _has_meaning(word: str, ignored: frozenset[str]) -> bool:
    if not 2 <= len(word) <= _LONGEST_WORD or "_" in word or _VERSION.fullmatch(word):
        return False
    return word.lower() not in ignored


def _phrases(run: _Run) -> Iterator[tuple[_Key, int, int]]:
    for first in range(len(run)):
        if is_weak(run[first][0]):
            continue
        for last in range(first, min(first + _LONGEST, len(run))):
            yield tuple(word for word, _, _ in run[first : last + 1]), run[first][1], run[last][2]


def _weights(candidates: dict[_Key, _Candidate]) -> dict[_Key, float]:
    """Weigh by how often a phrase stands for itself, not within a longer one (the C-value of terminology)."""
    within: defaultdict[_Key, list[int]] = defaultdict(list)
    for key, candidate in candidates.items():
        if len(key) > 1 and candidate.count > 1:
            for part in _parts(key):
                within[part].append(candidate.count)
    weights = {}
    for key, candidate in candidates.items():
        longer = within.get(key, [])
        own = candidate.count - (sum(longer) / len(longer) if longer else 0)
        if own > 0 and _is_topic(key, candidate):
            weights[key] = _weight(key, candidate, own)
    return weights


def _is_topic(key: _Key, candidate: _Candidate) -> bool:
    if len(key) == 1:
        return candidate.count > 1 and names_something(key[0])
    return is_weak(key[-1]) or names_something(key[-1])


def _weight(key: _Key, candidate: _Candidate, own: float) -> float:
    early = 1 + max(0.0, 1 - candidate.first / _OPENING)
    heading = 1.5 if candidate.in_heading else 1.0
    return _BY_LENGTH[len(key)] * math.log2(max(own, _ONCE)) * early * heading


def _parts(key: _Key) -> Iterator[_Key]:
    for length in range(1, len(key)):
        for start in range(len(key) - length + 1):
            yield key[start : start + length]


def _overlap(key: _Key, weightier: _Key, count: int) -> bool:
    """Return whether a phrase says hardly more than a weightier one."""
    shared = len(set(key) & set(weightier))
    if shared == 1 and len(weightier) == 1 < len(key):
        return count < _OFTEN
    return shared > 1 or shared == len(key)
