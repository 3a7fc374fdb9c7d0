"""Entities, relations and mentions are built anew from the results of modules, while documents come and go."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from kgl_graph.rebuilds.links import LinksAnew
from kgl_graph.testing import GraphKit, deleted
from kgl_graph.testing_links import linked
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.rebuild import RebuildIncomplete
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.orders import dump

TABLES = ("entity", "entity_source", "mention", "relation", "relation_source")


def rebuild(graph: GraphKit) -> "asyncio.Task[int]":
    return asyncio.create_task(LinksAnew(graph.database, graph.objects).run())


async def canonical(graph: GraphKit) -> str:
    state = await graph.database.run(graph.workspace, lambda tx, _: dump(tx, TABLES, frozenset()), None)
    return hashlib.sha256(repr(state).encode()).hexdigest()


async def run(graph: GraphKit, sql: str, *args: object) -> None:
    async def write(tx: Transaction, _: None) -> None:
        await tx.execute(sql, *args)

    await graph.database.run(graph.workspace, write, None)


async def events(graph: GraphKit) -> int:
    (row,) = await graph.rows("select count(*) as n from outbox_log")
    return int(row["n"])


@pytest.fixture
async def documents(graph: GraphKit) -> AsyncIterator[list[UUID]]:
    """Three that were read, beside what somebody stated by hand."""
    found = [await linked(graph, name) for name in ("Tea", "Coffee", "Tea")]
    triple = {
        "subject": {"name": "Tea", "type": "thing"},
        "predicate": "likes",
        "object": {"name": "By hand", "type": "thing"},
    }
    answer = await graph.client.post("/graph/v1/triples", json={"triples": [triple]}, headers=graph.headers)
    assert answer.status_code < 300, answer.text
    yield found


async def test_it_makes_what_is_there_already_and_tells_nobody(graph: GraphKit, documents: list[UUID]) -> None:
    before, told = await canonical(graph), await events(graph)
    for _ in range(2):
        assert await rebuild(graph) == len(documents)
        assert (await canonical(graph), await events(graph)) == (before, told)


WRONG = {
    "mentions": "delete from mention where $1::uuid is not null",
    "entities": "delete from entity where name = 'Coffee' and $1::uuid is not null",
    "a name": "update entity set name = 'forged', aliases = array['x'] where name = 'By hand' and $1::uuid is not null",
    "a type": "update entity set type = 'forged', folded = 'forged' where name = 'Tea' and $1::uuid is not null",
    "relations": "delete from relation where predicate = 'knows' and $1::uuid is not null",
    "a predicate": "update relation set predicate = 'forged' where predicate = 'knows' and $1::uuid is not null",
    "a mention too many": """insert into mention
        select workspace_id, entity_id, chunk_id, module, 77, 78, document_id, version from mention
        where $1::uuid is not null limit 1""",
    "an entity of nobody": "insert into entity select workspace_id, $1, 'x', 't', 'x', '{}', now() from entity limit 1",
    "a relation of nobody": """insert into relation
        select workspace_id, $1, subject_id, 'p', object_id, now() from relation limit 1""",
    "a gone document's": """insert into entity_source
        select workspace_id, entity_id, 'document:gone:reader', $1, 'reader', 'n', '{}' from entity_source limit 1""",
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_what_is_wrong_missing_or_of_nobody_is_put_right(
    graph: GraphKit, documents: list[UUID], wrong: str
) -> None:
    before = await canonical(graph)
    await run(graph, WRONG[wrong], uuid7())
    assert await canonical(graph) != before
    assert await rebuild(graph) == len(documents)
    assert await canonical(graph) == before


async def test_what_comes_and_goes_while_it_runs_is_right_afterwards(graph: GraphKit, documents: list[UUID]) -> None:
    await run(graph, "delete from mention")
    task = rebuild(graph)
    later = await linked(graph, "Cocoa")
    await graph.hear(deleted(documents[0], 1))
    await graph.work()
    await task
    mentions = await graph.rows("select distinct document_id from mention")
    assert {row["document_id"] for row in mentions} == {*documents[1:], later}
    after = await canonical(graph)
    assert await rebuild(graph) == len(documents)
    assert await canonical(graph) == after


async def test_a_result_that_is_lost_is_named_and_what_it_said_is_kept(graph: GraphKit, documents: list[UUID]) -> None:
    before = await canonical(graph)
    (row,) = await graph.rows(
        "select result_object from ai_request where document_id = $1 and result_object is not null", documents[1]
    )
    await graph.objects.delete(row["result_object"])
    with pytest.raises(RebuildIncomplete, match=str(documents[1])):
        await rebuild(graph)
    assert await canonical(graph) == before
