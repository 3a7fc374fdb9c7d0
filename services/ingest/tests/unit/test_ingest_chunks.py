"""Chunks: exact spans, stable ids, and the time that they take."""

import hashlib
import importlib.metadata
import statistics
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgl_ingest.domain.media_types import recognise
from kgl_ingest.parsing import formats
from kgl_ingest.parsing.chunks import ChunkSpan, chunk, chunk_id, chunk_lines
from kgl_ingest.parsing.parsed_text import ParsedText

DOCUMENT = UUID("0195d6a0-0000-7000-8000-000000000001")


def readmes() -> list[ParsedText]:
    """What the installed distributions say about themselves, parsed as their metadata declares."""
    found = []
    for distribution in importlib.metadata.distributions():
        metadata = distribution.metadata.json
        body = metadata.get("description")
        if body:
            content = str(body).encode("utf-8", "surrogateescape")
            declared = metadata.get("description_content_type")
            found.append(formats.parse(content, recognise(content, str(declared or ""), None)))
    return found


def assert_spans_tile(text: str, spans: list[ChunkSpan]) -> None:
    """Between the chunks, before the first and behind the last there is white space only; none begins with it."""
    end = 0
    for span in spans:
        assert text[end : span.start].strip() == ""
        assert text[span.start : span.end] == text[span.start : span.end].strip() != ""
        end = span.end
    assert text[end:].strip() == ""


def test_the_spans_of_all_installed_readmes_are_exact() -> None:
    parsed = readmes()
    assert len(parsed) > 20
    lengths = []
    for document in parsed:
        assert_spans_tile(document.text, list(chunk(document.text)))
        for line in map(orjson.loads, chunk_lines(DOCUMENT, 1, document)):
            assert document.text[line["start"] : line["end"]] == line["text"]
            lengths.append(len(line["text"]))
    assert max(lengths) <= 1200
    assert 600 <= statistics.median(lengths) <= 1200


@given(st.text(alphabet=st.sampled_from("aé漢🎉\u0301\u200d. \n\t"), max_size=5000))
def test_the_spans_of_any_text_are_exact(text: str) -> None:
    assert_spans_tile(text, list(chunk(text)))


@pytest.mark.parametrize(
    "text",
    [
        "🎉é " * 40_000,
        "x" * 100_000,
        "word " * 40_000,
        "One sentence follows the other. " * 5_000,
        "a" + " " * 100_000 + "b",
        ("A paragraph of some length. " * 9 + "\n\n") * 400,
    ],
)
def test_chunks_are_right_across_the_windows_of_long_texts(text: str) -> None:
    spans = list(chunk(text))
    assert_spans_tile(text, spans)
    assert all(span.end - span.start <= 1200 for span in spans)
    assert all(span.end - span.start >= 700 for span in spans[:-1] if len(spans) > 2)


def test_a_window_leaves_no_seam() -> None:
    paragraphs = [f"Paragraph {n}: " + "some words of it. " * 20 for n in range(300)]
    text = "\n\n".join(paragraph.strip() for paragraph in paragraphs)
    assert all(text[span.start : span.start + 9] == "Paragraph" for span in chunk(text))


def test_a_text_without_words_has_no_chunks() -> None:
    assert list(chunk("")) == list(chunk(" \n ")) == []


def test_a_chunk_line_carries_what_a_reader_needs() -> None:
    parsed = ParsedText("The title", "First line.\n\nSecond line.")
    (line,) = chunk_lines(DOCUMENT, 3, parsed)
    assert line.endswith(b"}\n")
    assert orjson.loads(line) == {
        "id": str(chunk_id(DOCUMENT, 3, 0)),
        "ordinal": 0,
        "start": 0,
        "end": 25,
        "title": "The title",
        "text": "First line.\n\nSecond line.",
    }


def test_chunk_ids_differ_by_document_version_and_ordinal_and_stay_the_same() -> None:
    other = UUID("0195d6a0-0000-7000-8000-000000000002")
    ids = {chunk_id(document, version, n) for document in (DOCUMENT, other) for version in (1, 11) for n in (1, 11)}
    assert len(ids) == 8
    assert chunk_id(DOCUMENT, 1, 0) == UUID("b3700e72-04d5-5594-8cf8-b437a957c2ff")


def test_the_same_text_gives_the_same_bytes() -> None:
    parsed = ParsedText("t", "Some sentence with an end. " * 3000)
    first, second = (hashlib.sha256(b"".join(chunk_lines(DOCUMENT, 1, parsed))).digest() for _ in range(2))
    assert first == second
