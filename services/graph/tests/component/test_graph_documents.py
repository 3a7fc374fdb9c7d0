"""Documents come, change and go, in any order of their events."""

import hashlib
from datetime import timedelta
from uuid import UUID

from kgl_contracts.ai import EntityRef, ExtractedEntity, ExtractedRelation, Extraction, ExtractionCompleted, Span
from kgl_contracts.operations import ReceiptProgressed
from kgl_graph.collector import collect_once
from kgl_graph.domain.results import result_key
from kgl_graph.testing import GraphKit, chunk_id, deleted
from kgl_servicekit.events.subscription import SUPERSEDED
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.modules import told_removed, told_stages
from kgl_servicekit.testing.orders import call_back, jobs_left


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
    key = f"{graph.result_folder(document, version)}{hashlib.sha256(content).hexdigest()}.json"
    info = await graph.objects.put(key, content)
    return ExtractionCompleted(
        request_id=uuid7(),
        document_id=document,
        version=version,
        module="reader",
        entities=1,
        relations=1,
        result_object=key,
        sha256=info.sha256,
    )


async def test_an_older_version_is_superseded_and_searchable_text_is_the_newer_one(graph: GraphKit) -> None:
    document = uuid7()
    old, new = await graph.parsed(document, 1, ["old harbour"]), await graph.parsed(document, 2, ["new harbour"])
    await graph.hear(new)
    assert await graph.hear(old) == SUPERSEDED
    await graph.work()
    answer = await graph.client.get("/graph/v1/search", params={"q": "harbour"}, headers=graph.headers)
    assert [hit["snippet"] for hit in answer.json()["hits"]] == ["new harbour"]


async def test_chunks_that_are_missing_or_damaged_fail_the_job_with_a_code(graph: GraphKit) -> None:
    missing = await graph.parsed(uuid7(), 1, ["x"])
    await graph.objects.delete(missing.chunks_object)
    damaged = (await graph.parsed(uuid7(), 1, ["y"])).model_copy(update={"sha256": "0" * 64})
    for event in (missing, damaged):
        await graph.hear(event)
    await graph.work()
    failed = await graph.rows("select error_code from job order by error_code")
    assert [row["error_code"] for row in failed] == ["chunks_damaged", "chunks_missing"]


async def test_chunks_that_went_with_their_document_are_superseded(graph: GraphKit) -> None:
    event, operation = await graph.parsed(uuid7(), 1, ["x"]), uuid7()
    await graph.hear(event, operation=operation)
    await graph.objects.delete(event.chunks_object)
    await graph.work()
    assert (await told_stages(graph.database, operation))["graph.index"] == "retrying"
    await graph.hear(deleted(event.document_id, 1))
    await graph.database.run((), call_back, None)
    await graph.work()
    assert (await told_stages(graph.database, operation))["graph.index"] == "superseded"
    assert await graph.rows("select 1 from job where state = 'failed'") == []


async def test_an_entity_stays_while_another_document_speaks_of_it(graph: GraphKit) -> None:
    first, second = uuid7(), uuid7()
    for document in (first, second):
        await graph.hear(await graph.parsed(document, 1, ["Ada wrote"]))
        await graph.hear(await result(graph, document, 1, found(document, 1, "Ada")))
        await graph.work()
    await graph.hear(deleted(first, 1))
    await graph.work()
    assert {row["name"] for row in await graph.rows("select name from entity")} == {"Ada", "Other"}
    await graph.hear(deleted(second, 1))
    await graph.work()
    assert await graph.rows("select name from entity") == []


async def test_with_a_document_go_its_results_and_the_receipt_tells_what_went(graph: GraphKit) -> None:
    document, operation = await graph.index(["Ada wrote"]), uuid7()
    (request,) = await graph.lease("extract")
    answered = await graph.client.post(
        f"/modules/v1/jobs/{request['id']}:complete",
        json={"token": request["token"], "extraction": found(document, 1, "Ada").model_dump(mode="json")},
        headers=graph.headers,
    )
    assert answered.status_code in {200, 204}, answered.text
    (done,) = await graph.rows("select * from ai_request where result_object is not null")
    linked = ExtractionCompleted(
        request_id=done["id"],
        document_id=document,
        version=1,
        module="reader",
        entities=2,
        relations=1,
        result_object=done["result_object"],
        sha256=done["result_sha256"],
    )
    await graph.hear(linked)
    await graph.work()
    await graph.hear(deleted(document, 1), operation)
    await graph.work()
    removed = await told_removed(graph.database, operation)
    assert removed == {"chunks": 1, "mentions": 1, "entities": 2, "relations": 1, "results": 1}
    assert [entry.key async for entry in graph.objects.listed("graph/")] == []
    assert await graph.rows("select id from ai_request where result_object is not null") == []


async def test_a_result_that_went_with_its_document_before_it_was_linked_is_superseded(graph: GraphKit) -> None:
    document, operation = await graph.index(["Ada wrote"]), uuid7()
    event = await result(graph, document, 1, found(document, 1, "Ada"))
    await graph.hear(event, operation)
    await graph.hear(deleted(document, 1))
    await graph.objects.delete(event.result_object)
    await graph.work()
    assert (await told_stages(graph.database, operation))["graph.link.reader"] == "superseded"
    assert await graph.rows("select name from entity") == []


async def test_old_results_that_no_request_names_are_collected_and_nothing_else_is(graph: GraphKit) -> None:
    await graph.index(["Ada wrote"])
    (kept,) = await graph.rows(
        "update ai_request set result_object = 'graph/' || workspace_id || '/results/' || id || '/1.json'"
        " where capability = 'extract' returning id, result_object"
    )
    keys = {
        "kept": kept["result_object"],
        "another result": result_key(graph.workspace, kept["id"], "2"),
        "no request": result_key(graph.workspace, uuid7(), "1"),
        "of another workspace": result_key(uuid7(), kept["id"], "1"),
        "no result": f"graph/{graph.workspace}/other/1.json",
    }
    for key in keys.values():
        await graph.objects.put(key, b"{}")
    assert await collect_once(graph.database, graph.objects, timedelta(hours=24)) == 0
    assert await collect_once(graph.database, graph.objects, timedelta(0)) == 3
    left = {entry.key async for entry in graph.objects.listed("graph/")}
    assert left == {keys["kept"], keys["no result"]}


async def test_results_of_documents_that_were_deleted_before_they_went_along_are_collected(graph: GraphKit) -> None:
    document = await graph.index(["Ada wrote"])
    (named,) = await graph.rows(
        "update ai_request set result_object = 'graph/' || workspace_id || '/results/' || id || '/1.json'"
        " where capability = 'extract' returning result_object"
    )
    await graph.objects.put(named["result_object"], b"{}")
    assert await collect_once(graph.database, graph.objects, timedelta(0)) == 0
    await graph.rows("update document set deleted_at = now() where document_id = $1 returning 1", document)
    assert await collect_once(graph.database, graph.objects, timedelta(0)) == 1


async def test_the_last_of_two_results_wins_although_the_older_one_is_linked_last(graph: GraphKit) -> None:
    document, operation = await graph.index(["Ada wrote"]), uuid7()
    for name in ("Older", "Newer"):
        await graph.hear(await result(graph, document, 1, found(document, 1, name)), operation)
    put_off = await graph.rows(
        """update job set run_at = now() + interval '1 hour'
           where kind = 'graph.link' and data ->> 'sha256' <> (select sha256 from last_result) returning id"""
    )
    assert len(put_off) == 1
    await graph.work()
    await graph.database.run((), call_back, None)
    await graph.work()
    assert await graph.database.run((), jobs_left, None) == []
    assert {row["name"] for row in await graph.rows("select name from entity")} == {"Newer", "Other"}
    rows = await graph.rows("select data from outbox_log where type = $1 order by id", ReceiptProgressed.event_type)
    told = [entry for row in rows for entry in ReceiptProgressed.model_validate_json(row["data"]).entries]
    ends = [entry.state for entry in told if entry.stage == "graph.link.reader" and entry.state != "running"]
    assert ends == ["done", "superseded"]
