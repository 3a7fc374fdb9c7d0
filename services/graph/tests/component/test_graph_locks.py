"""Writers that meet in the graph wait for each other in one order, so that none has to be repeated."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from kgl_contracts.ai import EntityRef, ExtractedEntity, Extraction, Span
from kgl_graph.db import graph as statements
from kgl_graph.domain.graph import NewEntity, Triple, new_entity, new_relation
from kgl_graph.testing import GraphKit, accepted, chunk_id, deleted
from kgl_graph.use_cases.hear_document import hear_accepted, hear_deleted
from kgl_graph.use_cases.link_extraction import LinkExtraction, link_extraction
from kgl_graph.use_cases.put_triples import put_triples
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.testing.races import repeats, until_waiting

Step = Callable[[Transaction], Awaitable[Any]]


def triple(subject: str, object_: str) -> Triple:
    return Triple(
        subject=EntityRef(name=subject, type="thing"),
        predicate="knows",
        object=EntityRef(name=object_, type="thing"),
    )


def entity(graph: GraphKit, name: str) -> NewEntity:
    return new_entity(graph.workspace, EntityRef(name=name, type="thing"))


class Halved:
    """A transaction that stops between its two steps until it is told to go on."""

    def __init__(self, graph: GraphKit, first: Step, second: Step) -> None:
        self._stopped, self._go = asyncio.Event(), asyncio.Event()
        self._graph, self._first, self._second = graph, first, second
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._graph.database.run(self._graph.workspace, self._steps, None))
        await self._stopped.wait()

    async def end(self) -> None:
        self._go.set()
        assert self._task is not None
        await self._task

    async def _steps(self, tx: Transaction, _: None) -> None:
        await self._first(tx)
        self._stopped.set()
        await self._go.wait()
        await self._second(tx)


async def test_who_removes_waits_for_who_adds_without_holding_what_it_needs(graph: GraphKit) -> None:
    await graph.database.run(graph.workspace, put_triples, [triple("a", "b")])
    ids = [entity(graph, name).id for name in ("a", "b")]
    relation = new_relation(graph.workspace, triple("a", "b").subject, "knows", triple("a", "b").object)

    async def remove(tx: Transaction, relations: set[UUID]) -> None:
        await statements.remove_unfounded(tx, set(ids), relations)

    adds = Halved(
        graph,
        lambda tx: statements.lock_entities(tx, sorted(ids)),
        lambda tx: statements.put_relations(tx, [relation]),
    )
    before = repeats(graph.database)
    await adds.start()
    removes = asyncio.create_task(graph.database.run(graph.workspace, remove, {relation.id}))
    await until_waiting(graph.database)
    await adds.end()
    await removes
    assert repeats(graph.database) == before


async def test_who_states_triples_holds_no_new_entity_while_it_waits_for_a_known_one(graph: GraphKit) -> None:
    new, known = sorted((f"name {n}" for n in range(2)), key=lambda name: entity(graph, name).id)
    await graph.database.run(graph.workspace, put_triples, [triple(known, known)])
    both = [entity(graph, name) for name in (new, known)]
    links = Halved(
        graph,
        lambda tx: statements.lock_entities(tx, sorted(one.id for one in both)),
        lambda tx: statements.put_entities(tx, both),
    )
    before = repeats(graph.database)
    await links.start()
    states = asyncio.create_task(graph.database.run(graph.workspace, put_triples, [triple(new, known)]))
    await until_waiting(graph.database)
    await links.end()
    await states
    assert repeats(graph.database) == before


def about_ada(document: UUID) -> LinkExtraction:
    span = Span(chunk_id=chunk_id(document, 1, 0), start=0, end=3)
    ada = ExtractedEntity(name="Ada", type="person", mentions=(span,))
    return LinkExtraction(
        document_id=document, version=1, module="reader", sha256="0" * 64, extraction=Extraction(entities=(ada,))
    )


async def test_a_batch_of_events_holds_no_entities_while_it_waits_for_the_next_document(graph: GraphKit) -> None:
    gone, other = [await graph.index(["Ada wrote"]) for _ in range(2)]
    await graph.database.run(graph.workspace, link_extraction, about_ada(gone))
    batch = Halved(
        graph,
        lambda tx: hear_deleted(tx, deleted(gone, 1)),
        lambda tx: hear_accepted(tx, accepted(other, 2)),
    )
    before = repeats(graph.database)
    await batch.start()
    links = asyncio.create_task(graph.database.run(graph.workspace, link_extraction, about_ada(other)))
    waits = asyncio.create_task(until_waiting(graph.database))
    await asyncio.wait({links, waits}, return_when=asyncio.FIRST_COMPLETED)
    await batch.end()
    await links
    waits.cancel()
    assert repeats(graph.database) == before
    await graph.work()
    assert [row["document_id"] for row in await graph.rows("select document_id from mention")] == [other]
