from collections.abc import Callable

import pytest

from kgl_client.document import Chunk, KnownEntity
from kgl_reader.rules.extract import extract
from kgl_reader.rules.gazetteer import Gazetteer
from kgl_reader.rules.relations import MOST_RELATIONS, main_entity

ChunksOf = Callable[..., list[Chunk]]

PYPDF = KnownEntity(name="pypdf", type="package", aliases=("PyPDF2",))
KNOWN = Gazetteer(
    [
        PYPDF,
        KnownEntity(name="reportlab", type="package"),
        KnownEntity(name="borb", type="package"),
    ]
)


@pytest.mark.parametrize(
    "title",
    [
        "pypdf",
        "PyPDF",
        "`pypdf`",
        "PyPDF2",
        "pypdf 7.1",
        "pypdf: PDFs for all",
        "pypdf - a library",
        "pypdf documentation",
    ],
)
def test_a_title_that_is_a_known_name_says_what_the_document_is_about(title: str | None) -> None:
    main = main_entity(title, KNOWN)

    assert main is not None
    assert main.name == "pypdf"


@pytest.mark.parametrize(
    "title", [None, "", "PDF libraries", "From reportlab to pypdf", "About pypdf", "pypdf and borb", "pypdf3"]
)
def test_other_titles_do_not(title: str | None) -> None:
    assert main_entity(title, KNOWN) is None


def test_the_main_entity_mentions_the_others_the_strongest_first(chunks_of: ChunksOf) -> None:
    text = "borb is old. borb is new. borb!\n\npypdf beats reportlab. It is like reportlab.\n"

    extraction = extract(chunks_of(text, title="pypdf"), KNOWN)

    relations = [(one.subject.name, one.predicate, one.object.name) for one in extraction.relations]
    assert relations == [("pypdf", "mentions", "reportlab"), ("pypdf", "mentions", "borb")]
    assert [text[span.start : span.end] for span in extraction.relations[0].evidence] == ["reportlab"] * 2


def test_evidence_near_the_main_entity_comes_first_and_is_limited(chunks_of: ChunksOf) -> None:
    text = "borb.\n\n" * 20 + "pypdf is like borb.\n"

    (relation,) = extract(chunks_of(text, title="pypdf"), KNOWN).relations

    assert len(relation.evidence) == 10
    assert relation.evidence[0].start == text.rindex("borb")
    assert relation.evidence[1].start == 0


def test_a_main_entity_that_the_text_never_names_is_still_the_subject(chunks_of: ChunksOf) -> None:
    extraction = extract(chunks_of("It is like borb.", title="pypdf"), KNOWN)

    assert [(entity.name, len(entity.mentions)) for entity in extraction.entities] == [("pypdf", 0), ("borb", 1)]
    assert extraction.relations[0].subject.name == "pypdf"


def test_there_are_no_relations_without_a_main_entity(chunks_of: ChunksOf) -> None:
    assert extract(chunks_of("pypdf is like borb.", title="PDF libraries"), KNOWN).relations == ()


def test_there_are_at_most_fifty_relations(chunks_of: ChunksOf) -> None:
    known = [KnownEntity(name=f"thing{number}", type="thing") for number in range(80)]
    text = "\n".join(f"{one.name} " * (1 + number % 7) for number, one in enumerate(known))

    extraction = extract(chunks_of(text, title="pypdf"), Gazetteer([*known, PYPDF]))

    assert len(extraction.relations) == MOST_RELATIONS
    strengths = [len(relation.evidence) for relation in extraction.relations]
    assert strengths == sorted(strengths, reverse=True)
    assert strengths[0] == 7
