"""The events of one document in every order over topics end in one state."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from kgl_contracts.ai import EntityRef, ExtractedEntity, ExtractedRelation, Extraction, ExtractionCompleted, Span
from kgl_contracts.event import EventData
from kgl_graph.db.tables import METADATA
from kgl_graph.testing import GraphKit, accepted, chunk_id, deleted
from kgl_servicekit.database.core_schema import CORE_TABLES
from kgl_servicekit.ids import derived_id
from kgl_servicekit.testing.orders import call_back, dump, empty, interleavings, jobs_left, put_off

DOCUMENT = UUID("0198f3a0-0000-7000-8000-0000000000aa")
TABLES = sorted(set(METADATA.tables) - set(CORE_TABLES))
# `search` is computed by the database from title and text, which are compared
WITHOUT = frozenset({"search"})
MODES = ("jobs at once", "jobs at the end", "jobs of version 1 last")

# the names of events: accepted, parsed, extracted by version; within a topic the order by key holds
PARSED_AT_ONCE = ("a1", "p1", "a2", "p2")
PARSED_LATER = ("a1", "a2", "p1", "p2")
PARSED_IN_REVERSE = ("a1", "a2", "p2", "p1")
RESULTS = ("x1", "x2")


def extraction(version: int) -> Extraction:
    """Both versions speak of one entity, spelled differently and with other aliases, and of one of their own."""
    span = Span(chunk_id=chunk_id(DOCUMENT, version, 0), start=0, end=3)
    spelling, alias, own = {1: ("ADA", "Countess", "One"), 2: ("Ada", "Lovelace", "Two")}[version]
    ada, mine = EntityRef(name=spelling, type="person"), EntityRef(name=own, type="thing")
    return Extraction(
        entities=(
            ExtractedEntity(name=spelling, type="person", aliases=(alias,), mentions=(span,)),
            ExtractedEntity(name=own, type="thing", mentions=(span,)),
        ),
        relations=(ExtractedRelation(subject=mine, predicate="knows", object=ada, evidence=(span,)),),
    )


async def result(graph: GraphKit, version: int) -> ExtractionCompleted:
    key = f"{graph.result_folder(DOCUMENT, version)}1.json"
    info = await graph.objects.put(key, extraction(version).model_dump_json().encode())
    return ExtractionCompleted(
        request_id=derived_id("request", version),
        document_id=DOCUMENT,
        version=version,
        module="reader",
        entities=2,
        relations=1,
        result_object=key,
        sha256=info.sha256,
    )


async def events(graph: GraphKit) -> dict[str, EventData]:
    return {
        "a1": accepted(DOCUMENT, 1),
        "p1": await graph.parsed(DOCUMENT, 1, ["one text", "more of it", "and the end"]),
        "x1": await result(graph, 1),
        "a2": accepted(DOCUMENT, 2),
        "p2": await graph.parsed(DOCUMENT, 2, ["two texts", "and more"]),
        "x2": await result(graph, 2),
        "d": deleted(DOCUMENT, 2),
    }


async def state_after(graph: GraphKit, known: dict[str, EventData], order: list[str], mode: str) -> dict[str, Any]:
    """All that graph holds after these events, each of which came again with another id in the end."""
    await graph.database.run(graph.workspace, empty, TABLES)
    for name in order:
        await graph.hear(known[name])
        if mode == "jobs at once":
            await graph.work()
    for name in order:
        await graph.hear(known[name], copy=1)
    if mode == "jobs of version 1 last":
        await graph.database.run((), put_off, 1)
        await graph.work()
        await graph.database.run((), call_back, None)
    await graph.work()
    assert await graph.database.run((), jobs_left, None) == []
    return await graph.database.run(graph.workspace, lambda tx, _: dump(tx, TABLES, WITHOUT), None)


async def check_all(graph: GraphKit, orders: Iterator[list[str]], *, every_mode: bool = False) -> dict[str, Any]:
    """The one state of all orders; each with jobs at once, and at the end in one of two ways, or in both."""
    known = await events(graph)
    objects = dict(graph.objects.objects)
    first: dict[str, Any] | None = None
    for number, order in enumerate(orders):
        for mode in MODES if every_mode else (MODES[0], MODES[1 + number % 2]):
            for key, content in objects.items():  # a deletion takes results along
                await graph.objects.put(key, content)
            state = await state_after(graph, known, order, mode)
            first = state if first is None else first
            assert state == first, (order, mode)
    assert first is not None
    return first


def is_of_version_two(state: dict[str, Any]) -> None:
    (document,) = state["document"]
    assert (document["version"], document["parsed_version"], document["deleted_at"]) == (2, 2, False)
    assert sorted(row["text"] for row in state["chunk"]) == ["and more", "two texts"]
    assert {row["chunk_id"] for row in state["chunk_vector"]} == {row["id"] for row in state["chunk"]}
    assert [row["version"] for row in state["indexed_document"]] == [2]
    assert sorted((row["name"], *row["aliases"]) for row in state["entity"]) == [("Ada", "Lovelace"), ("Two",)]
    assert {row["version"] for name in ("mention", "relation_source") for row in state[name]} == {2}
    assert len(state["relation"]) == 1
    assert sorted((r["version"], r["state"]) for r in state["ai_request"]) == [
        *[(1, "superseded")] * 2,
        *[(2, "ready")] * 2,
    ]


def is_a_tombstone(state: dict[str, Any]) -> None:
    (document,) = state.pop("document")
    assert (document["version"], document["deleted_at"]) == (2, True)
    assert {row["state"] for row in state.pop("ai_request")} == {"superseded"}
    assert set(state) == {*TABLES} - {"document", "ai_request"}
    assert all(rows == [] for rows in state.values())


async def test_every_order_without_a_deletion_ends_in_the_state_of_version_two(graph: GraphKit) -> None:
    is_of_version_two(await check_all(graph, interleavings(PARSED_AT_ONCE, RESULTS)))


async def test_every_order_with_a_deletion_ends_in_a_tombstone_and_nothing_else(graph: GraphKit) -> None:
    is_a_tombstone(await check_all(graph, interleavings((*PARSED_AT_ONCE, "d"), RESULTS)))


@pytest.mark.slow
@pytest.mark.parametrize("parsed", [PARSED_LATER, PARSED_IN_REVERSE], ids=["later", "in reverse"])
async def test_versions_that_are_parsed_late_or_in_reverse_end_in_the_same_state(
    graph: GraphKit, parsed: tuple[str, ...]
) -> None:
    orders = (order for n, order in enumerate(interleavings(parsed, RESULTS)) if n % 5 == 0)
    is_of_version_two(await check_all(graph, orders))


@pytest.mark.slow
async def test_every_order_of_parsing_and_of_results_ends_in_the_same_two_states(graph: GraphKit) -> None:
    for results in (RESULTS, RESULTS[::-1]):
        for parsed in (PARSED_AT_ONCE, PARSED_LATER, PARSED_IN_REVERSE):
            is_of_version_two(await check_all(graph, interleavings(parsed, results), every_mode=True))
            is_a_tombstone(await check_all(graph, interleavings((*parsed, "d"), results), every_mode=True))


async def test_a_version_stays_in_search_and_graph_when_the_next_one_is_never_parsed_in_every_order(
    graph: GraphKit,
) -> None:
    # the module answers once it was asked, or its answer overtakes the parsing
    orders = (order for told in (("a1", "p1", "a2"), ("a1", "a2", "p1")) for order in interleavings(told, ("x1",)))
    state = await check_all(graph, orders, every_mode=True)
    assert sorted(row["name"] for row in state["entity"]) == ["ADA", "One"]
    assert {row["version"] for name in ("mention", "relation_source") for row in state[name]} == {1}
    assert {row["state"] for row in state["ai_request"]} == {"ready"}
    assert [row["version"] for row in state["indexed_document"]] == [1]
    assert len(state["chunk"]) == len(state["chunk_vector"]) == 3
