from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from kgl_client.document import Chunk
from kgl_contracts.ai import Span
from kgl_reader.rules.document import Document


def chunk(number: int, start: int, text: str, *, title: str | None = None) -> Chunk:
    return Chunk(id=UUID(int=number), ordinal=number, start=start, end=start + len(text), title=title, text=text)


def test_chunks_that_touch_become_the_text_they_were_cut_from() -> None:
    document = Document.of([chunk(0, 0, "One text, "), chunk(1, 10, "two chunks.")])

    assert document.text == "One text, two chunks."
    assert document.span(10, 13) == Span(chunk_id=UUID(int=1), start=0, end=3)


def test_chunks_are_taken_in_the_order_of_their_ordinals() -> None:
    assert Document.of([chunk(1, 3, "two"), chunk(0, 0, "one")]).text == "onetwo"


def test_what_overlapping_chunks_share_is_in_the_text_once() -> None:
    document = Document.of([chunk(0, 0, "Graphs and edges"), chunk(1, 11, "edges and nodes")])

    assert document.text == "Graphs and edges and nodes"
    assert document.span(0, 16) == Span(chunk_id=UUID(int=0), start=0, end=16)
    assert document.span(11, 26) == Span(chunk_id=UUID(int=1), start=0, end=15)


def test_chunks_whose_offsets_contradict_their_texts_are_kept_whole_and_apart() -> None:
    document = Document.of([chunk(0, 0, "Graphs and edges"), chunk(1, 11, "Nodes")])

    assert document.text == "Graphs and edges\n\nNodes"
    assert document.span(18, 23) == Span(chunk_id=UUID(int=1), start=0, end=5)


def test_a_gap_between_chunks_reads_as_line_breaks() -> None:
    assert Document.of([chunk(0, 0, "One"), chunk(1, 4, "line."), chunk(2, 20, "Next.")]).text == "One\nline.\n\nNext."


def test_no_span_crosses_the_edge_of_a_chunk() -> None:
    document = Document.of([chunk(0, 0, "know"), chunk(1, 4, "ledge")])

    assert document.span(0, 9) is None
    assert document.span(4, 4) is None


def test_the_title_is_that_of_the_first_chunk() -> None:
    chunks = [chunk(0, 0, "a", title=" Graphs "), chunk(1, 1, "b", title="Edges")]

    assert Document.of(chunks).title == "Graphs"
    assert Document.of(chunks[1:]).title == "Edges"
    assert Document.of([chunk(0, 0, "a", title=" ")]).title is None


def test_a_document_without_chunks_is_empty() -> None:
    document = Document.of([])

    assert (document.text, document.title) == ("", None)
    assert document.span(0, 1) is None


@given(
    text=st.text(min_size=1, max_size=80),
    cuts=st.lists(st.tuples(st.integers(0, 80), st.integers(0, 10)), max_size=6),
    start=st.integers(0, 80),
    length=st.integers(1, 20),
)
def test_every_span_holds_the_same_characters_as_the_text(
    text: str, cuts: list[tuple[int, int]], start: int, length: int
) -> None:
    edges = sorted({cut for cut, _ in cuts if 0 < cut < len(text)})
    backs = [back for _, back in cuts]
    chunks = []
    for number, (begin, end) in enumerate(zip([0, *edges], [*edges, len(text)], strict=True)):
        begin = max(0, begin - backs[number % len(backs)]) if backs else begin
        chunks.append(chunk(number, begin, text[begin:end]))

    document = Document.of(chunks)
    span = document.span(start, start + length)

    assert {found.id: found.text for found in chunks}.keys() == {found.id for found in document.chunks}
    if span:
        held = chunks[span.chunk_id.int].text[span.start : span.end]
        assert held == document.text[start : start + length]
        assert len(held) == length
    elif len(chunks) == 1:
        assert start + length > len(text)
