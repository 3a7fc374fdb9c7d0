"""Text cut into chunks at its own seams: paragraphs, else lines, else sentences, else words."""

from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID, uuid5

import orjson
from semantic_text_splitter import TextSplitter

from kgl_ingest.parsing.parsed_text import ParsedText

CHUNK_CHARACTERS = (800, 1200)
# The splitter is quadratic in the length of a line; read window by window it is linear.
_WINDOW_CHARACTERS = 32_768


class ChunkSpan(NamedTuple):
    """The characters `text[start:end]` of a document."""

    start: int
    end: int


def chunk(text: str) -> Iterator[ChunkSpan]:
    """The chunks in order, without overlap; only white space lies between them.

    A chunk ends where it has 800 to 1200 characters, or earlier where the next piece would not fit.
    """
    splitter = TextSplitter(CHUNK_CHARACTERS)
    position = 0
    while position < len(text):
        window = text[position : position + _WINDOW_CHARACTERS]
        # chunk_indices counts characters, not bytes
        spans = [ChunkSpan(position + at, position + at + len(piece)) for at, piece in splitter.chunk_indices(window)]
        position += len(window)
        if position < len(text) and len(spans) > 1:
            position = spans.pop().start  # it may go on in the next window
        yield from spans


def chunk_id(document_id: UUID, version: int, ordinal: int) -> UUID:
    """The same for the same place in the same version, whoever computes it."""
    return uuid5(document_id, f"{version}/{ordinal}")


def chunk_lines(document_id: UUID, version: int, parsed: ParsedText) -> Iterator[bytes]:
    """JSON Lines: id, ordinal (from 0), start and end (characters), title of the document, text."""
    for ordinal, span in enumerate(chunk(parsed.text)):
        line = {
            "id": chunk_id(document_id, version, ordinal),
            "ordinal": ordinal,
            "start": span.start,
            "end": span.end,
            "title": parsed.title,
            "text": parsed.text[span.start : span.end],
        }
        yield orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
