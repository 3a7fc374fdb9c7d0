import random
from collections.abc import Callable

import pytest

from kgl_client.document import Chunk, KnownEntity
from kgl_contracts.ai import Extraction
from kgl_reader.rules.extract import MOST_ENTITIES, MOST_MENTIONS, extract
from kgl_reader.rules.gazetteer import Gazetteer

ChunksOf = Callable[..., list[Chunk]]

NOTHING_KNOWN = Gazetteer([])


def knowing(*entities: tuple[str, str]) -> Gazetteer:
    return Gazetteer(KnownEntity(name=name, type=type_) for name, type_ in entities)


def named(extraction: Extraction) -> dict[tuple[str, str], int]:
    return {(entity.type, entity.name): len(entity.mentions) for entity in extraction.entities}


def test_entities_of_all_rules_come_together(chunks_of: ChunksOf) -> None:
    text = "Harbor is written in Python under the MIT license. Cargo ships love Harbor. Cargo ships!"

    extraction = extract(chunks_of(text), knowing(("Harbor", "product")))

    assert named(extraction) == {
        ("product", "Harbor"): 2,
        ("topic", "Cargo ships"): 2,
        ("license", "MIT"): 1,
        ("technology", "Python"): 1,
    }


def test_a_known_entity_keeps_its_type_and_spelling(chunks_of: ChunksOf) -> None:
    extraction = extract(chunks_of("Postgres and PEP-8"), knowing(("postgresql", "product"), ("PEP 8", "rule")))

    assert named(extraction) == {("product", "postgresql"): 1, ("rule", "PEP 8"): 1}
    assert [entity.aliases for entity in extraction.entities] == [("Postgres",), ("PEP-8",)]


def test_a_licence_is_not_taken_for_its_known_namesake(chunks_of: ChunksOf) -> None:
    extraction = extract(chunks_of("License: MIT. The MIT is in Cambridge."), knowing(("MIT", "organisation")))

    assert named(extraction) == {("organisation", "MIT"): 1, ("license", "MIT"): 1}


def test_a_part_of_a_longer_name_is_no_mention(chunks_of: ChunksOf) -> None:
    text = "The Python Software Foundation is not Python."

    assert named(extract(chunks_of(text), NOTHING_KNOWN)) == {
        ("organisation", "Python Software Foundation"): 1,
        ("technology", "Python"): 1,
    }


def test_known_names_inside_addresses_and_topics_are_mentions(chunks_of: ChunksOf) -> None:
    text = "https://github.com/py-pdf/pypdf reads PDF files. Merge PDF files. Split PDF files."

    extraction = extract(chunks_of(text), knowing(("pypdf", "package"), ("PDF", "format")))

    assert named(extraction) == {
        ("format", "PDF"): 3,
        ("package", "pypdf"): 1,
        ("topic", "PDF files"): 3,
        ("repository", "py-pdf/pypdf"): 1,
    }


def test_a_key_phrase_that_is_known_or_found_by_its_form_is_dropped(chunks_of: ChunksOf) -> None:
    text = "Cargo ships carry Docker. Docker loves cargo ships. Docker! Is docker a port?"

    extraction = extract(chunks_of(text), knowing(("cargo ship", "vehicle"), ("Cargo Ships", "vehicle")))

    assert named(extraction) == {("vehicle", "Cargo Ships"): 2, ("technology", "Docker"): 3}


def test_a_place_where_two_rules_find_the_same_entity_is_one_mention(chunks_of: ChunksOf) -> None:
    extraction = extract(chunks_of("Go to https://kgl.eu/ now"), knowing(("kgl.eu", "website")))

    assert named(extraction) == {("website", "kgl.eu"): 1}


def test_topics_found_before_do_not_make_room_for_weaker_ones(readmes: dict[str, str], chunks_of: ChunksOf) -> None:
    chunks = chunks_of(readmes["pypdf"])
    first = {entity.name for entity in extract(chunks, NOTHING_KNOWN).entities if entity.type == "topic"}

    again = extract(chunks, knowing(*((name, "topic") for name in first)))

    assert {entity.name for entity in again.entities if entity.type == "topic"} == first


def test_names_are_merged_in_any_case_with_their_spellings_as_aliases(chunks_of: ChunksOf) -> None:
    text = "https://github.com/A/b and https://github.com/a/B, RFC 9110 and RFC-9110 and rfc9110"

    extraction = extract(chunks_of(text), NOTHING_KNOWN)

    assert named(extraction) == {("standard", "RFC 9110"): 3, ("repository", "A/b"): 2}
    assert [entity.aliases for entity in extraction.entities] == [("RFC-9110", "rfc9110"), ()]


def test_a_name_across_the_edge_of_two_chunks_is_left_out(chunks_of: ChunksOf) -> None:
    known = knowing(("knowledge graph", "topic"))
    text = "A knowledge\ngraph, a knowledge graph."

    assert named(extract(chunks_of(text), known)) == {("topic", "knowledge graph"): 2}
    assert named(extract(chunks_of(text, size=5), known)) == {("topic", "knowledge graph"): 1}


def test_entities_and_mentions_are_limited_and_the_known_and_frequent_stay(chunks_of: ChunksOf) -> None:
    text = "known1 " + "often " * 99 + "".join(f"https://site{number}.eu/ " * 2 for number in range(300))

    extraction = extract(chunks_of(text), knowing(("known1", "thing"), ("often", "thing")))

    assert len(extraction.entities) == MOST_ENTITIES
    assert [(entity.name, len(entity.mentions)) for entity in extraction.entities[:3]] == [
        ("often", MOST_MENTIONS),
        ("known1", 1),
        ("site0.eu", 2),
    ]


@pytest.mark.parametrize("text", ["", " \n ", "```\n```"])
def test_a_document_without_words_has_no_entities(text: str, chunks_of: ChunksOf) -> None:
    extraction = extract(chunks_of(text), NOTHING_KNOWN)

    assert (extraction.entities, extraction.relations) == ((), ())


def test_every_span_in_real_readmes_is_exact(readmes: dict[str, str], packages: Gazetteer, chunks_of: ChunksOf) -> None:
    mentions = 0
    for name, text in readmes.items():
        chunks = chunks_of(text, size=300)
        texts = {chunk.id: chunk.text for chunk in chunks}

        extraction = extract(chunks, packages)

        places = {(entity.name, entity.type) for entity in extraction.entities}
        for entity in extraction.entities:
            spellings = {known.casefold().replace("_", "-") for known in (entity.name, *entity.aliases)}
            for span in entity.mentions:
                surface = " ".join(texts[span.chunk_id][span.start : span.end].split())
                assert surface.casefold().replace("_", "-") in spellings or len(entity.aliases) == 10, (name, surface)
                mentions += 1
        for relation in extraction.relations:
            assert (relation.subject.name, relation.subject.type) in places, name
            assert (relation.object.name, relation.object.type) in places, name
            assert relation.evidence, name
    assert mentions > 5_000


def test_the_same_input_gives_the_same_result_in_any_order_of_chunks(
    readmes: dict[str, str], packages: Gazetteer, chunks_of: ChunksOf
) -> None:
    chunks = chunks_of(readmes["pypdf"], size=300)
    shuffled = random.Random(3).sample(chunks, len(chunks))

    assert extract(shuffled, packages).model_dump_json() == extract(chunks, packages).model_dump_json()


def test_the_readme_of_a_pdf_library_speaks_of_pdf(
    readmes: dict[str, str], packages: Gazetteer, chunks_of: ChunksOf
) -> None:
    extraction = extract(chunks_of(readmes["pypdf"], size=1000), packages)

    found = named(extraction)
    assert extraction.entities[0].name == "pypdf"
    assert found["topic", "PDF"] >= 5
    assert ("repository", "py-pdf/pypdf") in found
    assert ("technology", "Python") in found
    assert ("pypdf", "mentions", "PDF") in {
        (relation.subject.name, relation.predicate, relation.object.name) for relation in extraction.relations
    }
