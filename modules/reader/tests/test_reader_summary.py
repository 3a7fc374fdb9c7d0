from collections.abc import Callable

import pytest

from kgl_client.document import Chunk
from kgl_reader.rules.extract import summarise
from kgl_reader.rules.markup import is_inert, readable
from kgl_reader.rules.summary import MOST_CHARACTERS, MOST_SENTENCES, NothingToSummariseError

ChunksOf = Callable[..., list[Chunk]]

README = """\
[![CI](https://ci.test/badge.svg)](https://ci.test)

# Harbor

Harbor is a [graph database](https://a.test) for ports and **ships**. It keeps the provenance of
every edge in the graph database, from ship to port. See the documentation for more about it.

```python
# Harbor is code here, and no sentence of the graph database.
```

| Harbor | is a table of the graph database. |
|--------|-----------------------------------|

- [Harbor is a link in the graph database.](https://a.test/1)
- [Ports](https://a.test/2)

Ports send ships to the graph database as events, one by one. Install it with pip:

The weather is nice today for most people, and that has nothing to do with it.
"""


def test_a_summary_holds_the_sentences_that_say_most_in_their_order(chunks_of: ChunksOf) -> None:
    summary = summarise(chunks_of(README))

    assert summary.title == "Harbor"
    assert summary.text.startswith(
        "Harbor is a graph database for ports and ships. It keeps the provenance of every edge in the graph"
        " database, from ship to port."
    )
    assert "Ports send ships to the graph database as events, one by one." in summary.text
    for skipped in ("no sentence", "table", "See the", "Install", "https://"):
        assert skipped not in summary.text


def test_each_source_is_a_sentence_of_its_chunk(chunks_of: ChunksOf) -> None:
    chunks = chunks_of(README, size=120)
    texts = {chunk.id: chunk.text for chunk in chunks}

    summary = summarise(chunks)

    assert len(chunks) > 3
    assert 2 <= len(summary.sources) <= MOST_SENTENCES
    sources = [texts[source.chunk_id][source.start : source.end] for source in summary.sources]
    assert all(source.rstrip().endswith(".") for source in sources)
    assert sources[0].startswith("Harbor is a [graph database]")


def test_a_summary_is_short_even_of_long_sentences(chunks_of: ChunksOf) -> None:
    sentence = "Harbor keeps " + "very " * 60 + "many ships number {} in the graph."
    text = " ".join(sentence.format(number) for number in range(10))

    assert len(summarise(chunks_of(text)).text) <= MOST_CHARACTERS


def test_sentences_that_say_the_same_are_taken_once(chunks_of: ChunksOf) -> None:
    text = "Harbor is a graph database for ports. " * 5 + "Ships are sent to it as events from elsewhere."

    assert summarise(chunks_of(text)).text.count("Harbor is a graph database") == 1


def test_asides_give_way_to_what_is_said(chunks_of: ChunksOf) -> None:
    text = (
        "Harbor keeps many ships in its memory. Please read the manual of it first of all."
        " Ports in turn send all of their ships there."
    )

    assert summarise(chunks_of(text, title="Ports")).text == (
        "Harbor keeps many ships in its memory. Ports in turn send all of their ships there."
    )


def test_the_title_is_the_documents_else_the_first_key_phrase_else_the_first_words(chunks_of: ChunksOf) -> None:
    text = "The graph database is new. A graph database is old."

    assert summarise(chunks_of(text, title="Ports")).title == "Ports"
    assert summarise(chunks_of(text)).title == "graph database"
    assert summarise(chunks_of("So it is, and so it was.")).title == "So it is, and so it was."
    assert len(summarise(chunks_of(text, title="Ports " * 100)).title) <= 300


def test_a_text_without_sentences_is_summarised_by_its_first_words(chunks_of: ChunksOf) -> None:
    (chunk,) = chunks_of("\n\n# Ships\n\n" + "- ship\n" * 200)

    summary = summarise([chunk])

    assert summary.text.startswith("Ships - ship")
    assert summary.text.endswith("…")
    assert len(summary.text) <= MOST_CHARACTERS
    (source,) = summary.sources
    assert chunk.text[source.start : source.end].startswith("# Ships")


def test_a_text_in_a_script_without_spaces_is_summarised(chunks_of: ChunksOf) -> None:
    summary = summarise(chunks_of("知识图谱把文档和概念连接起来。每个关系都有来源。"))

    assert summary.text == "知识图谱把文档和概念连接起来。 每个关系都有来源。"


@pytest.mark.parametrize("text", ["", " \n\t", "--- *** ---", "![](https://a.test/x.png)"])
def test_what_has_no_words_cannot_be_summarised(text: str, chunks_of: ChunksOf) -> None:
    with pytest.raises(NothingToSummariseError, match="no readable text"):
        summarise(chunks_of(text))


@pytest.mark.parametrize(
    "attack",
    [
        "<script>alert(1)</script>",
        "<scr<b>ipt>alert(1)</script>",
        "<img src=x onerror=alert(1)",
        "[click me](javascript:alert(1))",
        "[[click](a) me](javascript:alert(1))",
        "[click me][1]\n\n[1]: javascript:alert(1)",
        "`<img src=x onerror=alert(1)>`",
        "<!-- <script> -->",
    ],
)
@pytest.mark.parametrize("text", ["A graph database is {} what most ports of the world want. It is so very old.", "{}"])
def test_a_summary_carries_no_active_content(text: str, attack: str, chunks_of: ChunksOf) -> None:
    try:
        summary = summarise(chunks_of(text.format(attack)))
    except NothingToSummariseError:
        return

    assert is_inert(summary.text)
    assert "<" not in summary.text
    assert "](" not in summary.text


def test_summaries_of_real_readmes_are_prose_with_exact_sources(readmes: dict[str, str], chunks_of: ChunksOf) -> None:
    for name, text in readmes.items():
        chunks = chunks_of(text, size=400)
        texts = {chunk.id: chunk.text for chunk in chunks}

        summary = summarise(chunks)

        assert 0 < len(summary.text) <= MOST_CHARACTERS, name
        assert 1 <= len(summary.sources) <= MOST_SENTENCES, name
        assert is_inert(summary.text), name
        for source in summary.sources:
            sentence = texts[source.chunk_id][source.start : source.end]
            assert sentence == sentence.strip(), name
            assert readable(sentence) in summary.text or summary.text.endswith("…"), name


def test_the_summary_of_a_readme_says_what_the_library_is(readmes: dict[str, str], chunks_of: ChunksOf) -> None:
    summary = summarise(chunks_of(readmes["pypdf"], size=1000))

    assert summary.title == "pypdf"
    assert summary.text.startswith("pypdf is a free and open-source pure-python PDF library capable of splitting")
