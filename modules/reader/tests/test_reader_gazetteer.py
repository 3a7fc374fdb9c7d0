import random
from importlib import metadata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgl_client.document import KnownEntity
from kgl_reader.rules.gazetteer import Gazetteer, fold


def gazetteer(*names: str) -> Gazetteer:
    return Gazetteer(KnownEntity(name=name, type="thing") for name in names)


def surfaces(text: str, *names: str) -> list[str]:
    return [text[found.start : found.end] for found in gazetteer(*names).find(text)]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("pypdf", "PyPDF reads what pypdf wrote.", ["PyPDF", "pypdf"]),
        ("pypdf", "pypdf2 and xpypdf and my_pypdf", []),
        ("pypdf", "pypdf.PdfReader, (pypdf), `pypdf`", ["pypdf", "pypdf", "pypdf"]),
        ("typing-extensions", "import typing_extensions", ["typing_extensions"]),
        ("typing_extensions", "pip install typing-extensions", ["typing-extensions"]),
        ("typing", "typing-extensions, typing_extensions, my-typing, my.typing", []),
        ("Kafka", "a Kafka-Cluster, non-Kafka", ["Kafka", "Kafka"]),
        ("C++", "C++ and C++11 but C++x", ["C++", "C++"]),
        ("Cee", "Cee++ and Cee# and Cee+Dee", ["Cee"]),
        (".NET", ".NET, ASP.NET, example.net, .net", [".NET", ".net"]),
        ("Go", "Go go GO Golang", ["Go"]),
        ("SQL", "SQL, sql, MySQL", ["SQL"]),
        ("Rust", "rust RUST", ["rust", "RUST"]),
        ("C", "C is a letter", []),
        ("Python 3", "Python 3, Python 3.11, Python 3. Python 37", ["Python 3", "Python 3"]),
        ("knowledge graph", "a Knowledge\nGraph", ["Knowledge\nGraph"]),
        ("knowledge  graph", "a knowledge\xa0graph", ["knowledge\xa0graph"]),
        ("O'Reilly", "by O’Reilly", ["O’Reilly"]),
        ("Straße", "die STRASSE und die Straße", ["Straße"]),
        ("İzmir", "İİ İzmir", ["İzmir"]),
        ("ΟΔΟΣ", "η οδος και η ΟΔΟΣ", ["οδος", "ΟΔΟΣ"]),
        ("北京", "我在北京市", ["北京"]),
        ("Python", "使用Python编程", ["Python"]),
        ("@scope/pkg", "see @scope/pkg", ["@scope/pkg"]),
    ],
)
def test_a_name_is_found_as_a_whole_word(name: str, text: str, expected: list[str]) -> None:
    assert surfaces(text, name) == expected


def test_the_longest_of_the_leftmost_names_is_found() -> None:
    assert surfaces("knowledge graph lab", "graph lab", "knowledge", "knowledge graph") == ["knowledge graph"]


def test_a_shorter_name_is_found_where_the_longer_one_is_no_whole_word() -> None:
    assert surfaces("graph databases", "graph database", "graph") == ["graph"]


def test_a_name_cut_off_by_the_end_of_the_text_is_not_found() -> None:
    assert surfaces("a knowledge", "knowledge graph") == []
    assert gazetteer("knowledge graph", "knowledge").find("a knowledge")[0].end == len("a knowledge")


def test_an_alias_names_its_entity() -> None:
    known = KnownEntity(name="PostgreSQL", type="database", aliases=("Postgres", "PG"))

    found = Gazetteer([known]).find("Postgres or PG, but not pg")

    assert [(one.name, one.type, one.start, one.end) for one in found] == [
        ("PostgreSQL", "database", 0, 8),
        ("PostgreSQL", "database", 12, 14),
    ]


def test_a_proper_name_wins_over_another_entitys_alias() -> None:
    mercury = KnownEntity(name="Mercury", type="planet")
    metal = KnownEntity(name="Hydrargyrum", type="metal", aliases=("Mercury",))

    assert Gazetteer([metal, mercury]).get("mercury") == mercury


def test_the_order_in_which_entities_come_does_not_matter() -> None:
    entities = [KnownEntity(name=name, type=kind) for name in ("Apple", "apple", "Pear") for kind in ("fruit", "firm")]
    text = "apple, Apple and pear"

    assert Gazetteer(entities).find(text) == Gazetteer(reversed(entities)).find(text)
    assert {found.type for found in Gazetteer(entities).find(text)} == {"firm"}


def test_an_empty_gazetteer_finds_nothing() -> None:
    assert surfaces("Any text - at all.") == []


def test_names_are_known_in_any_case_and_entities_only_as_they_are() -> None:
    known = Gazetteer([KnownEntity(name="SQL", type="language")])

    assert known.has("sql")
    assert not known.has("no")
    assert known.get("sql") is None
    assert known.knows("SQL", "language")
    assert not known.knows("SQL", "database")


def test_ten_thousand_names_are_each_found_once() -> None:
    rng = random.Random(7)
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = sorted({"".join(rng.choices(letters, k=8)) + f" {number}" for number in range(10_000)})

    found = gazetteer(*names).find(", ".join(names))

    assert [one.name for one in found] == names


def test_all_installed_distributions_are_found_under_both_spellings() -> None:
    names = sorted({found.name for found in metadata.distributions() if len(found.name) >= 4})

    assert {one.name for one in gazetteer(*names).find("\n".join(names))} == set(names)
    assert {one.name for one in gazetteer(*names).find("\n".join(names).replace("-", "_"))} == set(names)


@given(st.text(max_size=100))
def test_folding_keeps_every_character_in_its_place(text: str) -> None:
    assert len(fold(text)) == len(text)
    assert fold(text) == fold(fold(text))


@given(st.lists(st.text(alphabet="aA-_ .+1é", min_size=1, max_size=6), max_size=5), st.text(alphabet="aA-_ .+1é\n"))
def test_found_names_do_not_overlap_and_stand_in_the_text(names: list[str], text: str) -> None:
    known = gazetteer(*(name for name in names if name.strip()))
    done = 0
    for one in known.find(text):
        assert one.start >= done
        assert fold(text[one.start : one.end]) == fold(" ".join(one.name.split()))
        done = one.end
