"""Documents come, change and go, in any order of their events."""

from itertools import permutations
from typing import Any
from uuid import UUID

import pytest

from kgl_contracts.ai import EntityRef, ExtractedEntity, ExtractedRelation, Extraction, ExtractionCompleted, Span
from kgl_contracts.event import EventData
from kgl_graph.testing import GraphKit, accepted, chunk_id, deleted
from kgl_servicekit.events.subscription import SUPERSEDED
from kgl_servicekit.ids import uuid7


def found(document: UUID, version: int, name: str) -> Extraction:
    """One entity with one mention, related to another."""
    span = Span(chunk_id=chunk_id(document, version, 0), start=0, end=3)
    me, other = EntityRef(name=name, type="thing"), EntityRef(name="Other", type="thing")
    return Extraction(
        entities=(ExtractedEntity(name=name, type="thing", mentions=(span,)),),
        relations=(ExtractedRelation(subject=me, predicate="knows", object=other, evidence=(span,)),),
    )


async def result(graph: GraphKit, document: UUID, version: int, extraction: Extraction) -> ExtractionCompleted:
    content = extraction.model_dump_json().encode()
    info = await graph.objects.put(f"graph/{document}/{version}", content)
    return ExtractionCompleted(
        request_id=uuid7(),
        document_id=document,
        version=version,
        module="reader",
        entities=1,
        relations=1,
        result_object=f"graph/{document}/{version}",
        sha256=info.sha256,
    )


async def state(graph: GraphKit, document: UUID) -> dict[str, Any]:
    """All that the graph holds, without times."""
    return {
        "chunks": await graph.rows("select document_id, version, ordinal, text from chunk order by 1, 3"),
        "vectors": await graph.rows("select chunk_id, version from chunk_vector order by 1"),
        "entities": await graph.rows("select name, type from entity order by 1"),
        "mentions": await graph.rows('select chunk_id, start, "end" from mention order by 1, 2'),
        "relations": await graph.rows("select predicate from relation"),
        "document": await graph.rows(
            "select version, deleted_at is not null as gone from document where document_id = $1", document
        ),
    }


def without_ids(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if "id" not in name}


async def events_of(graph: GraphKit, document: UUID, *, with_end: bool) -> list[EventData]:
    events: list[EventData] = [
        accepted(document, 1),
        await graph.parsed(document, 1, ["one text"]),
        await result(graph, document, 1, found(document, 1, "One")),
        await graph.parsed(document, 2, ["two texts", "and more"]),
        await result(graph, document, 2, found(document, 2, "Two")),
    ]
    return [*events[1:], deleted(document, 2)] if with_end else events


@pytest.mark.parametrize("with_end", [False, True], ids=["living", "deleted"])
async def test_every_order_of_a_documents_events_ends_in_the_same_state(graph: GraphKit, with_end: bool) -> None:
    ends: list[dict[str, Any]] = []
    for order in list(permutations(range(5)))[::7]:
        document = uuid7()
        events = await events_of(graph, document, with_end=with_end)
        for number in order:
            await graph.hear(events[number])
            await graph.work()
        for number in order:  # and once more: what is repeated has no effect
            await graph.hear(events[number])
        await graph.work()
        end = await state(graph, document)
        ends.append(
            {name: [{k: v for k, v in row.items() if "id" not in k} for row in rows] for name, rows in end.items()}
        )
        await graph.hear(deleted(document, 2))
        await graph.work()
    assert all(end == ends[0] for end in ends)
    assert ends[0]["document"] == [{"version": 2, "gone": with_end}]
    if with_end:
        assert all(ends[0][name] == [] for name in ("chunks", "vectors", "entities", "mentions", "relations"))
    else:
        assert [row["text"] for row in ends[0]["chunks"]] == ["two texts", "and more"]
        assert [row["name"] for row in ends[0]["entities"]] == ["Other", "Two"]
        assert len(ends[0]["mentions"]) == len(ends[0]["relations"]) == 1


async def test_an_older_version_is_superseded_and_searchable_text_is_the_newer_one(graph: GraphKit) -> None:
    document = uuid7()
    old, new = await graph.parsed(document, 1, ["old harbour"]), await graph.parsed(document, 2, ["new harbour"])
    await graph.hear(new)
    assert await graph.hear(old) == SUPERSEDED
    await graph.work()
    answer = await graph.client.get("/graph/v1/search", params={"q": "harbour"}, headers=graph.headers)
    assert [hit["snippet"] for hit in answer.json()["hits"]] == ["new harbour"]


async def test_chunks_that_are_missing_or_damaged_fail_the_job_with_a_code(graph: GraphKit) -> None:
    missing = (await graph.parsed(uuid7(), 1, ["x"])).model_copy(update={"chunks_object": "nowhere"})
    damaged = (await graph.parsed(uuid7(), 1, ["y"])).model_copy(update={"sha256": "0" * 64})
    for event in (missing, damaged):
        await graph.hear(event)
    await graph.work()
    failed = await graph.rows("select error_code from job where state = 'failed' order by error_code")
    assert [row["error_code"] for row in failed] == ["chunks_damaged", "chunks_missing"]


async def test_an_entity_stays_while_another_document_speaks_of_it(graph: GraphKit) -> None:
    first, second = uuid7(), uuid7()
    for document in (first, second):
        await graph.hear(await graph.parsed(document, 1, ["Ada wrote"]))
        await graph.hear(await result(graph, document, 1, found(document, 1, "Ada")))
        await graph.work()
    await graph.hear(deleted(first, 1))
    assert {row["name"] for row in await graph.rows("select name from entity")} == {"Ada", "Other"}
    await graph.hear(deleted(second, 1))
    assert await graph.rows("select name from entity") == []
