"""An extractive summary: the few sentences that say most, in the order of the document."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kgl_contracts.ai import Summary
from kgl_reader.rules.document import Document
from kgl_reader.rules.key_phrases import KeyPhrase
from kgl_reader.rules.markup import is_inert, readable
from kgl_reader.rules.outline import Kind, Outline
from kgl_reader.rules.words import WORD, stem

MOST_SENTENCES = 4
MOST_CHARACTERS = 600
_FEWEST_SENTENCES = 2
_LONGEST_TITLE = 300
_LONGEST_OWN_TITLE = 80
_READ = 100_000
_FEWEST_WORDS = 5
_FEWEST_CHARACTERS = 25
_COMFORTABLE = 220
_SPOKEN = 0.6
_WORTH = 0.4
_SIMILAR = 0.6
_DENSE_SCRIPT = re.compile("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]")
_COMPLETE = re.compile(r"[.!?…。！？][)\"'”’»\]*_」』”）]*$")
_ONLY_LINK = re.compile(r"\W{0,5}\[[^\[\]]*\]\([^()]*\)\W{0,5}")
_BRACKETS = re.compile(r"[<>\[\]]")
_ASIDE = re.compile(
    r"(?:see|check|please|thanks?|click|note|install|visit|read|if you|copyright|©|all rights|don't forget"
    r"|for (?:a|an|more|further|additional|details|the full)|to (?:install|run|use|get)|you can (?:find|also)"
    r"|here(?:'s| is| are)|this (?:example|will)|the following|table of contents)\b",
    re.IGNORECASE,
)


class NothingToSummariseError(ValueError):
    """The document has no readable text."""


@dataclass(frozen=True, slots=True)
class _Sentence:
    text: str
    start: int
    end: int
    score: float
    words: frozenset[str]


def summarise(document: Document, outline: Outline, phrases: Sequence[KeyPhrase], title: str | None) -> Summary:
    """Return up to 4 sentences and 600 characters, and the place of each in its chunk.

    Only the first 100,000 characters are read. A document without whole sentences is summarised by its first
    words. Raises: NothingToSummariseError.
    """
    title = title or (phrases[0].name if phrases else None)
    chosen = _choose(_candidates(document, outline, phrases, title)) or _opening(document)
    if not chosen:
        raise NothingToSummariseError("the document has no readable text")
    ordered = sorted(chosen, key=lambda sentence: sentence.start)
    text = " ".join(sentence.text for sentence in ordered)
    spans = (document.span(sentence.start, sentence.end) for sentence in ordered)
    return Summary(
        title=_clipped(readable(title or ""), _LONGEST_TITLE) or _clipped(text, _LONGEST_OWN_TITLE),
        text=text,
        sources=tuple(span for span in spans if span),
    )


def _candidates(
    document: Document, outline: Outline, phrases: Sequence[KeyPhrase], title: str | None
) -> list[_Sentence]:
    topics = [(_stems(phrase.name), phrase.weight) for phrase in phrases]
    title_words = _stems(title or "")
    candidates: list[_Sentence] = []
    for block in outline.speaking("prose", "item"):
        for start, end in outline.sentences(block):
            if start >= _READ:
                break
            text = readable(outline.text[start:end])
            if not _says_something(outline, start, end, text) or not document.span(start, end):
                continue
            words = _stems(text)
            score = 1 / (1 + len(candidates) / 4) + _coverage(words, topics) + _form(text, block.kind)
            if title_words and title_words <= words:
                score += 0.3
            candidates.append(_Sentence(text, start, end, score, words))
    return candidates


def _says_something(outline: Outline, start: int, end: int, text: str) -> bool:
    """Return whether this is a sentence of words: no fragment, no link, nor mostly code or addresses."""
    dense = bool(_DENSE_SCRIPT.search(text))
    if not dense and (len(text) < _FEWEST_CHARACTERS or len(text.split()) < _FEWEST_WORDS):
        return False
    if len(text) > MOST_CHARACTERS or not _COMPLETE.search(text) or not is_inert(text):
        return False
    spoken = sum(map(str.isalpha, outline.plain[start:end]))
    written = sum(not character.isspace() for character in text)
    return spoken >= _SPOKEN * written and not _ONLY_LINK.fullmatch(outline.text, start, end)


def _coverage(words: frozenset[str], topics: Sequence[tuple[frozenset[str], float]]) -> float:
    """Return the share of the topics' weight that the words name."""
    total = sum(weight for _, weight in topics)
    return sum(weight for topic, weight in topics if topic <= words) / total if total else 0.0


def _form(text: str, kind: Kind) -> float:
    """Return what the sentence's form adds to its score: asides, questions and long ones are worth less."""
    aside = -0.8 if _ASIDE.match(text) else 0.0
    question = -0.3 if text.endswith("?") else 0.0
    item = -0.3 if kind == "item" else 0.0
    return aside + question + item - max(0, len(text) - _COMFORTABLE) / 400


def _choose(candidates: Sequence[_Sentence]) -> list[_Sentence]:
    chosen: list[_Sentence] = []
    room = MOST_CHARACTERS
    for sentence in sorted(candidates, key=lambda sentence: (-sentence.score, sentence.start)):
        enough = len(chosen) >= _FEWEST_SENTENCES and sentence.score < _WORTH * chosen[0].score
        if enough or len(chosen) == MOST_SENTENCES:
            break
        if len(sentence.text) <= room and not any(_similar(sentence, other) for other in chosen):
            chosen.append(sentence)
            room -= len(sentence.text) + 1
    return chosen


def _similar(one: _Sentence, other: _Sentence) -> bool:
    return len(one.words & other.words) > _SIMILAR * len(one.words | other.words)


def _opening(document: Document) -> list[_Sentence]:
    """Return the first words of the first chunk that has any."""
    for chunk, position in zip(document.chunks, document.positions, strict=True):
        start = len(chunk.text) - len(chunk.text.lstrip())
        passage = _clipped(chunk.text.strip(), MOST_CHARACTERS)
        text = _BRACKETS.sub("", readable(passage)).lstrip("#>*- ")
        if any(map(str.isalnum, text)):
            end = start + len(passage.removesuffix("…"))
            return [_Sentence(text, position + start, position + end, 0.0, frozenset())]
    return []


def _clipped(text: str, most: int) -> str:
    """Return the text, or as many of its first words as fit with a sign that it goes on."""
    if len(text) <= most:
        return text
    head = text[: most - 1]
    return (head.rpartition(" ")[0] or head).rstrip() + "…"


def _stems(text: str) -> frozenset[str]:
    return frozenset(stem(word) for word in WORD.findall(text))
