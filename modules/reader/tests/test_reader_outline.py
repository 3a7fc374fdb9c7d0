import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgl_reader.rules.document import Document
from kgl_reader.rules.markup import blanked, is_inert, readable
from kgl_reader.rules.outline import Outline, title_of

MARKDOWN = """\
[![CI](https://ci.test/badge.svg)](https://ci.test)

# Graphs

Graphs have nodes
and edges.

- one item
  goes on
- another item

| a | b |
|---|---|

```python
# not a heading
```

    indented code

[ref]: https://docs.test
"""

RST = """\
======
Graphs
======

:Author: Somebody
   of note

.. image:: https://ci.test/badge.svg
   :target: https://ci.test

Graphs have edges::

  graph.edges()

>>> graph.nodes()

Usage
-----
More prose.
"""


def kinds(text: str) -> list[tuple[str, str]]:
    outline = Outline.of(text)
    return [(block.kind, text[block.start : block.end]) for block in outline.blocks]


def sentences(text: str) -> list[str]:
    outline = Outline.of(text)
    return [text[start:end] for block in outline.speaking() for start, end in outline.sentences(block)]


def test_markdown_falls_into_blocks_of_their_kinds() -> None:
    assert kinds(MARKDOWN) == [
        ("markup", "[![CI](https://ci.test/badge.svg)](https://ci.test)"),
        ("heading", "# Graphs"),
        ("prose", "Graphs have nodes\nand edges."),
        ("item", "- one item\n  goes on"),
        ("item", "- another item"),
        ("table", "| a | b |"),
        ("markup", "|---|---|"),
        ("code", "```python\n# not a heading\n```\n\n    indented code"),
        ("markup", "[ref]: https://docs.test"),
    ]


def test_restructured_text_falls_into_blocks_of_their_kinds() -> None:
    words = [(kind, text) for kind, text in kinds(RST) if kind != "markup"]

    assert words == [
        ("heading", "Graphs"),
        ("prose", "Graphs have edges::"),
        ("code", "  graph.edges()\n\n>>> graph.nodes()"),
        ("heading", "Usage"),
        ("prose", "More prose."),
    ]


def test_a_fence_that_is_never_closed_makes_the_rest_code() -> None:
    assert [kind for kind, _ in kinds("Prose.\n```\ncode\n\n# code too")] == ["prose", "code"]


def test_a_short_line_that_stands_alone_and_is_no_sentence_is_a_heading() -> None:
    text = "Graphs & edges\n\nGraphs have edges.\n\nUsage (2026)\n\nUse it like this:\n\ngraph >= 3.10,<4"

    assert [kind for kind, _ in kinds(text)] == ["heading", "prose", "heading", "prose", "prose"]


@pytest.mark.parametrize(
    "code",
    [
        "from graphs import Graph",
        "import graphs, edges",
        "graph = Graph()\ngraph.add(1)",
        "graph.add(edge(1), 2)  # an edge",
        "async def main():\nawait graph",
        "class Graph(Base):",
        "@cached",
        "for edge in graph:",
        "$ graph",
        "pip install graphs[all]",
        "docker compose up -d",
        "sudo apt-get install -y graphs",
        "#!/bin/sh",
        '{"graph": 1}',
        "KGL_URL=here graphs",
        "# a comment\ngraph = Graph()",
        "graph.add(\n1,\n)",
    ],
)
def test_code_without_a_fence_is_code_to_the_next_blank_line(code: str) -> None:
    text = f"Before it.\n\n{code}\n\nAfter it."

    assert kinds(text) == [("prose", "Before it."), ("code", code), ("prose", "After it.")]


@pytest.mark.parametrize(
    "prose",
    [
        "import of goods is forbidden.",
        "make sure that it is on.",
        "if you want it, take it.",
        "docker is a tool.",
        "graph.add() is a call of (1).",
        "Graphs (2026) are x = y.",
        "- for edge in graph:",
    ],
)
def test_prose_that_begins_like_code_is_none(prose: str) -> None:
    assert [kind for kind, _ in kinds(prose)] != ["code"]


def test_tildes_as_long_as_the_line_above_underline_it() -> None:
    assert kinds("Graphs\n~~~~~~\nProse.") == [("heading", "Graphs"), ("markup", "~~~~~~"), ("prose", "Prose.")]
    assert [kind for kind, _ in kinds("Graphs:\n~~~\ncode\n~~~")] == ["prose", "code"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("See e.g. Smith et al. for more. Done.", ["See e.g. Smith et al. for more.", "Done."]),
        ("By J. R. Hartley. Done.", ["By J. R. Hartley.", "Done."]),
        ("Version 3.11 is out. Use it.", ["Version 3.11 is out.", "Use it."]),
        ("Das ist z.B. Unsinn. Ende.", ["Das ist z.B. Unsinn.", "Ende."]),
        ("第一句。第二句。", ["第一句。", "第二句。"]),
        ("See [the docs.](https://a.test/x) Done.", ["See [the docs.](https://a.test/x)", "Done."]),
        ("- An item. With two.", ["An item.", "With two."]),
        ("> A quote.\n> Goes on.", ["A quote.", "Goes on."]),
        ("## A heading ##", ["A heading"]),
        ("No full stop", ["No full stop"]),
    ],
)
def test_sentences_end_at_full_stops_that_end_sentences(text: str, expected: list[str]) -> None:
    assert [found.removeprefix("> ") for found in sentences(text)] == expected


def test_the_title_is_a_heading_before_all_prose_that_says_something() -> None:
    def title(text: str, own: str | None = None) -> str | None:
        document = Document(text=text, title=own, chunks=(), positions=())
        return title_of(document, Outline.of(text))

    assert title("# The `graph` [book](https://a.test)\n\nProse.") == "The `graph` book"
    assert title("# Installation\n\n# Graphs\n") == "Graphs"
    assert title("Prose first.\n\n# Graphs\n") is None
    assert title("# Graphs\n", own="Edges") == "Edges"


@pytest.mark.parametrize(
    ("markup", "words"),
    [
        ("[a link](https://a.test/(x)) here", "a link here"),
        ("![alt](https://a.test/x.png) here", "here"),
        ("[a link][ref] here", "a link here"),
        ("`a link <https://a.test>`_ here", "a link here"),
        ("`a reference`_ here", "a reference here"),
        (":class:`Graph` here", "`Graph` here"),
        ("<b>bold</b> <https://a.test> <!-- no --> here", "bold https://a.test here"),
        ("**strong** and\n> quoted", "strong and quoted"),
        ("__strong__ but __init__.py", "strong but init.py"),
    ],
)
def test_readable_text_has_words_and_no_links_or_tags(markup: str, words: str) -> None:
    assert readable(markup) == words


@pytest.mark.parametrize(
    "markdown", ["a <script> b", "</a", "<!-- open", "[[a](b)](javascript:c)", "[a] [b]", "[a]: javascript:b"]
)
def test_what_could_become_a_link_or_html_is_not_inert(markdown: str) -> None:
    assert not is_inert(markdown)


def test_plain_prose_is_inert() -> None:
    assert is_inert("Graphs [1] where a < b and 3 <4 hold.")


def test_comments_are_blanked_and_open_ones_are_text() -> None:
    assert blanked("one <!-- two\n --> three <!-- four").split() == ["one", "three", "<!--", "four"]


def test_words_stay_in_their_place_when_markup_is_blanked() -> None:
    text = "[PDF](https://a.test) `files` and `x.y()` by a.b@c.test, @someone"

    assert blanked(text).split() == ["PDF", "files", "and", "by", ","]
    assert blanked(text).index("files") == text.index("files")


@given(st.text(alphabet="[](){}<>!`*_~#-+.:/@|\\ \n\tahtps1é漢İ", max_size=200))
def test_blanking_keeps_the_length_and_blocks_keep_their_order(text: str) -> None:
    outline = Outline.of(text)

    assert len(outline.plain) == len(text)
    edges = [edge for block in outline.blocks for edge in (block.start, block.end)]
    assert edges == sorted(edges)
    for block in outline.speaking():
        for start, end in outline.sentences(block):
            assert block.start <= start < end <= block.end
