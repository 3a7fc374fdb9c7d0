import pytest

from kgl_reader.rules.key_phrases import MOST_PHRASES, key_phrases, occurrences
from kgl_reader.rules.outline import Outline
from kgl_reader.rules.words import function_words, names_something, stem

PROSE = """\
# Fraud detection

Graph databases store edges. A graph database is good at fraud detection, and fraud
detection is what banks want. Banks buy graph databases for many millions.
"""


def names(text: str) -> list[str]:
    return [phrase.name for phrase in key_phrases(Outline.of(text))]


def test_phrases_that_come_back_are_found_the_weightiest_first() -> None:
    phrases = key_phrases(Outline.of(PROSE))

    assert [phrase.names for phrase in phrases] == [
        ("fraud detection", "Fraud detection"),
        ("Graph databases", "graph database", "graph databases"),
        ("banks", "Banks"),
    ]
    assert [phrase.weight for phrase in phrases] == sorted((phrase.weight for phrase in phrases), reverse=True)


def test_every_spelling_of_a_phrase_is_a_mention_of_one_topic() -> None:
    phrases = key_phrases(Outline.of(PROSE))

    graphs = [one for one in occurrences(phrases, PROSE) if one.name == "Graph databases"]

    assert [PROSE[one.start : one.end] for one in graphs] == ["Graph databases", "graph database", "graph databases"]
    assert {one.type for one in graphs} == {"topic"}


def test_there_are_at_most_eight_phrases() -> None:
    words = "alpha bravo carrot delta eagle falcon garden harbor island jacket kitten".split()  # noqa: SIM905

    assert len(names(". ".join(words * 3))) == MOST_PHRASES


@pytest.mark.parametrize(
    "text",
    [
        "The and of it. The and of it. The and of it.",
        "Harbor, once. And garden, once.",
        "```\nharbor harbor harbor harbor\n```\n",
        "| harbor | harbor |\n| harbor | harbor |\n",
        "See https://harbor.test/harbor and https://harbor.test/harbor and a@harbor.test and a@harbor.test",
        "Ask @harbor and @harbor and @harbor.",
        "`harbor.open()` and `harbor.open()` and `harbor.open()`",
        "harbor_name and harbor_name and v2 and v2 and v2",
        "",
    ],
)
def test_function_words_code_tables_addresses_and_identifiers_are_no_topics(text: str) -> None:
    assert names(text) == []


def test_a_phrase_does_not_cross_punctuation() -> None:
    assert names("Harbor, garden. Harbor, garden. Harbor, garden.") == ["Harbor", "garden"]


def test_a_part_of_a_phrase_that_never_stands_alone_is_no_topic() -> None:
    assert names("Fraud detection here. " * 4) == ["Fraud detection"]


def test_a_word_of_two_phrases_is_weighed_by_where_it_stands_alone() -> None:
    text = "Graph databases grow. Graph theory helps. Graph databases! Graph theory!"

    assert names(text) == ["Graph databases", "Graph theory"]


def test_only_the_beginning_of_a_long_text_is_read() -> None:
    assert names("and the " * 25_100 + "harbor, harbor, harbor") == []


def test_a_text_in_which_nothing_comes_back_gives_up_to_three_phrases() -> None:
    text = "Harbor masters check cargo manifests, weather charts, tide tables and crew papers."

    assert names(text) == ["Harbor masters", "cargo manifests", "weather charts"]


def test_stop_words_are_those_of_the_language() -> None:
    text = "Der Hafen ist nicht weit von der Stadt. Die Stadt hat einen Hafen, und der Hafen ist alt."

    assert names(text) == ["Hafen", "Stadt"]
    assert "war" in function_words(["und", "der", "ist"])
    assert "war" not in function_words(["and", "the", "is"])
    assert "the" in function_words([])


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("Files", "file"),
        ("matches", "match"),
        ("classes", "class"),
        ("boxes", "box"),
        ("libraries", "library"),
        ("ties", "tie"),
        ("status", "status"),
        ("process", "process"),
        ("analysis", "analysis"),
        ("bus", "bus"),
        ("gas", "gas"),
    ],
)
def test_a_stem_is_the_singular(word: str, expected: str) -> None:
    assert stem(word) == expected


def test_weak_words_and_qualifiers_name_nothing_alone() -> None:
    assert not any(map(names_something, ["example", "capable", "useful", "ab"]))
    assert all(map(names_something, ["graph", "pdf", "provenance"]))
