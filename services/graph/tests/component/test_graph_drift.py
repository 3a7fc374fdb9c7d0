"""Each kind of drift in the graph is found in the real tables, repaired, and gone in the next look."""

import hashlib
from datetime import timedelta

import pytest

from kgl_graph.db.drift import DOCUMENT_OF_MENTIONS, DOCUMENT_OF_SOURCES, SAID_WRONG
from kgl_graph.domain.results import result_key
from kgl_graph.drift import drift_checks
from kgl_graph.testing import GraphKit, deleted
from kgl_graph.testing_links import linked
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.drift.check import DriftCheck
from kgl_servicekit.drift.run import run_check
from kgl_servicekit.drift.table import examine_drift
from kgl_servicekit.ids import uuid7

CHECKS = ("graph.vectors", "graph.mentions", "graph.sources", "graph.entities", "graph.relations", "graph.results")
TABLES = ("entity", "entity_source", "mention", "relation", "relation_source")


def checks(graph: GraphKit) -> dict[str, DriftCheck]:
    settings, bus, vectors = graph.service.settings, graph.service.bus, graph.service.outside.vectors
    made = drift_checks(graph.database, bus, graph.objects, vectors, settings)  # type: ignore[arg-type]
    return {check.name: check for check in made if check.name != "graph.documents"}


async def look(graph: GraphKit, *, repair: bool = False) -> dict[str, tuple[int, int]]:
    """Items found and repaired, by check; those that are well are left out."""
    results = [await run_check(graph.database, check, repair=repair, pause=0) for check in checks(graph).values()]
    assert [result.error for result in results] == [None] * len(results)
    return {result.check: (result.items, result.repaired) for result in results if result.items}


async def run(graph: GraphKit, sql: str, *args: object) -> None:
    async def write(tx: Transaction, _: None) -> None:
        await tx.execute(sql, *args)

    await graph.database.run(graph.workspace, write, None)


async def state(graph: GraphKit) -> dict[str, int]:
    return {table: len(await graph.rows(f"select * from {table}")) for table in TABLES}


async def test_a_graph_at_peace_has_none_and_each_check_is_looked_at(graph: GraphKit) -> None:
    await linked(graph)
    assert tuple(checks(graph)) == CHECKS
    assert await look(graph) == {}


SEEDS: dict[str, tuple[str, dict[str, tuple[int, int]]]] = {
    "an entity without a source": (
        "insert into entity select workspace_id, $1, 'x', 't', 'x', '{}', now() from entity limit 1",
        {"graph.entities": (1, 1)},
    ),
    "a relation without a source": (
        "insert into relation select workspace_id, $1, subject_id, 'p', object_id, now() from relation limit 1",
        {"graph.relations": (1, 1)},
    ),
    "mentions of an entity that is gone": (
        "delete from entity where id in (select entity_id from mention) and $1::uuid is not null",
        {"graph.mentions": (1, 1), "graph.sources": (1, 1)},
    ),
    "mentions that no source names": (
        "delete from entity_source where entity_id in (select entity_id from mention) and $1::uuid is not null",
        {"graph.mentions": (1, 1), "graph.entities": (1, 1)},
    ),
    "a relation that is gone": ("delete from relation where $1::uuid is not null", {"graph.sources": (1, 1)}),
    "mentions of a document that was never heard of": (
        "insert into mention select workspace_id, entity_id, chunk_id, module, 8, 9, $1, 1 from mention limit 1",
        {"graph.mentions": (1, 1)},
    ),
    "names by a document that was never heard of": (
        """insert into entity_source select workspace_id, entity_id, 'document:gone:reader', $1, 'reader', 'n', '{}'
           from entity_source limit 1""",
        {"graph.sources": (1, 1)},
    ),
}


@pytest.mark.parametrize("seed", SEEDS)
async def test_drift_is_found_repaired_and_gone(graph: GraphKit, seed: str) -> None:
    await linked(graph)
    before = await state(graph)
    sql, expected = SEEDS[seed]
    await run(graph, sql, uuid7())
    assert await state(graph) != before
    assert await look(graph) == {name: (items, 0) for name, (items, _) in expected.items()}
    assert await look(graph, repair=True) == expected
    await look(graph, repair=True)  # again, before the jobs have run
    await graph.work()
    assert await look(graph) == {}
    assert await state(graph) == before


async def test_a_deletion_on_its_way_is_no_drift_and_one_that_was_lost_is(graph: GraphKit) -> None:
    document = await linked(graph)
    await graph.hear(deleted(document, 1))
    assert await look(graph) == {}
    await run(graph, "delete from job where kind = 'graph.forget' and state = 'queued'")
    assert await look(graph) == dict.fromkeys(("graph.vectors", "graph.mentions", "graph.sources"), (1, 0))
    assert await look(graph, repair=True) == {"graph.vectors": (1, 1)}  # and the others are on their way by that
    await graph.work()
    assert await look(graph) == {}
    assert await state(graph) == dict.fromkeys(TABLES, 0)


async def test_what_was_said_by_a_result_that_is_lost_is_left_and_the_doctor_says_what_helps(graph: GraphKit) -> None:
    await linked(graph)
    await run(graph, "update ai_request set result_object = null")
    await run(graph, "delete from entity where id in (select entity_id from mention)")
    assert await look(graph, repair=True) == {"graph.mentions": (1, 0), "graph.sources": (1, 0)}
    by_hand = {check.name: check.by_hand for check in checks(graph).values()}
    todos = {told.todo for told in await graph.database.run((), examine_drift, by_hand)}
    lost = "kgl drift --repair; where no result is left to link again, delete the document, and upload it anew"
    assert todos == {lost}
    assert all(f"'{state}'" in DOCUMENT_OF_MENTIONS + DOCUMENT_OF_SOURCES for state in SAID_WRONG)


VECTORS = {
    "a vector is missing": "delete from chunk_vector where chunk_id = (select min(id::text)::uuid from chunk)",
    "a vector too many": """insert into chunk_vector
        select workspace_id, gen_random_uuid(), document_id, version, embedding from chunk_vector limit 1""",
}


@pytest.mark.parametrize("seed", VECTORS)
async def test_vectors_that_are_not_those_of_the_chunks_are_made_again(graph: GraphKit, seed: str) -> None:
    await graph.index(["harbour", "boats"])
    await graph.index(["bread"])
    vectors = "select chunk_id, document_id, version, embedding::text from chunk_vector order by chunk_id"
    before = await graph.rows(vectors)
    await run(graph, VECTORS[seed])
    assert await graph.rows(vectors) != before
    assert await look(graph) == {"graph.vectors": (1, 0)}
    assert await look(graph, repair=True) == {"graph.vectors": (1, 1)}
    assert await look(graph) == {}  # while the job is on its way
    await graph.work()
    assert await look(graph) == {}
    assert await graph.rows(vectors) == before


async def test_vectors_of_an_older_version_and_of_a_gone_document_are_forgotten(graph: GraphKit) -> None:
    changed, gone = await graph.index(["harbour"]), await graph.index(["bread"])
    await graph.hear(await graph.parsed(changed, 2, ["port"]))
    await graph.hear(deleted(gone, 1))
    await graph.work()
    vectors = "select document_id, version from chunk_vector order by 1, 2"
    before = await graph.rows(vectors)
    for document in (changed, gone):
        await run(
            graph,
            """insert into chunk_vector select workspace_id, gen_random_uuid(), $1, 1, embedding
               from chunk_vector limit 1""",
            document,
        )
    assert await look(graph, repair=True) == {"graph.vectors": (2, 2)}
    await graph.work()
    assert await look(graph) == {}
    assert await graph.rows(vectors) == before


async def test_a_result_that_no_request_names_is_found_when_the_collector_had_its_time(graph: GraphKit) -> None:
    key = result_key(graph.workspace, uuid7(), hashlib.sha256(b"x").hexdigest())
    await graph.objects.put(key, b"x")
    assert await look(graph) == {}
    graph.objects.modified_at[key] -= timedelta(days=3).total_seconds()
    assert await look(graph, repair=True) == {"graph.results": (1, 1)}
    assert await look(graph) == {}
