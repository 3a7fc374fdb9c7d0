"""The text of a document, put together from its chunks, and the way back from a place in it to a chunk."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kgl_client.document import Chunk
from kgl_contracts.ai import Span
from kgl_reader.rules.model import Occurrence


@dataclass(frozen=True, slots=True)
class Document:
    """One text over all chunks, so that rules see what crosses a chunk's edge.

    `title` is that of the first chunk. Chunks may overlap or leave gaps; a gap reads as line breaks.
    """

    text: str
    title: str | None
    chunks: tuple[Chunk, ...]
    positions: tuple[int, ...]

    @classmethod
    def of(cls, chunks: Iterable[Chunk]) -> "Document":
        """Put the chunks together in the order of their ordinals."""
        ordered = tuple(sorted(chunks, key=lambda chunk: (chunk.ordinal, chunk.start)))
        parts: list[str] = []
        positions: list[int] = []
        length = 0
        previous: Chunk | None = None
        for chunk in ordered:
            shared = _shared(previous, chunk)
            gap = "" if shared else _gap(previous, chunk)
            positions.append(length + len(gap) - shared)
            parts += (gap, chunk.text[shared:])
            length = positions[-1] + len(chunk.text)
            previous = chunk
        title = ordered[0].title if ordered else None
        return cls("".join(parts), title.strip() or None if title else None, ordered, tuple(positions))

    def span(self, start: int, end: int) -> Span | None:
        """Return the place in a chunk of characters `start` to `end`, or None where no one chunk holds them."""
        index = bisect_right(self.positions, start) - 1
        if index < 0 or end <= start:
            return None
        chunk, position = self.chunks[index], self.positions[index]
        if end > position + len(chunk.text):
            return None
        return Span(chunk_id=chunk.id, start=start - position, end=end - position)

    def spans(self, occurrences: Iterable[Occurrence]) -> Iterator[Span]:
        """Yield the places of those occurrences that one chunk holds."""
        for occurrence in occurrences:
            span = self.span(occurrence.start, occurrence.end)
            if span:
                yield span


def _shared(previous: Chunk | None, chunk: Chunk) -> int:
    """Return how many characters at the start of `chunk` are the end of the previous one."""
    if previous is None:
        return 0
    shared = previous.end - chunk.start
    if 0 < shared <= min(len(chunk.text), len(previous.text)) and previous.text.endswith(chunk.text[:shared]):
        return shared
    return 0


def _gap(previous: Chunk | None, chunk: Chunk) -> str:
    if previous is None or chunk.start == previous.end:
        return ""
    return "\n" if chunk.start == previous.end + 1 else "\n\n"
