"""Keys and URLs in events may be anybody's words, as dead letters can be corrected: none leads to what is others'."""

from uuid import UUID

import pytest

from kgl_contracts.ai import ExtractionCompleted
from kgl_contracts.ingest import DocumentParsed, chunks_url
from kgl_graph.rebuilds.links import LinksAnew
from kgl_graph.rebuilds.testing import Source, index, ordered, rebuild
from kgl_graph.testing import GraphKit
from kgl_graph.testing_links import extraction_of, linked
from kgl_servicekit.events.rebuild import RebuildIncomplete
from kgl_servicekit.ids import uuid7
from kgl_servicekit.places import chunks_folder, request_id, results_folder

ELSEWHERE = ("workspace", "document", "version", "folder")
SECRET = "the secret harbour"


def place(graph: GraphKit, document: UUID, other: str) -> tuple[UUID, UUID, int]:
    """That of version 1 of the document, but for one part."""
    workspace = uuid7() if other == "workspace" else graph.workspace
    return workspace, uuid7() if other == "document" else document, 10 if other == "version" else 1


async def failed(graph: GraphKit) -> list[tuple[str, int]]:
    rows = await graph.rows("select error_code, attempt from job where state = 'failed'")
    return [(row["error_code"], row["attempt"]) for row in rows]


@pytest.mark.parametrize("other", ELSEWHERE)
async def test_chunks_of_another_workspace_document_or_version_are_not_read(graph: GraphKit, other: str) -> None:
    parsed = await graph.parsed(uuid7(), 1, [SECRET])
    key = f"{chunks_folder(*place(graph, parsed.document_id, other))}chunks.jsonl"
    if other == "folder":
        key = parsed.chunks_object.replace("/chunks.jsonl", "/../1/chunks.jsonl")
    else:
        await graph.objects.put(key, await graph.objects.get(parsed.chunks_object))
    await graph.hear(parsed.model_copy(update={"chunks_object": key}))
    await graph.work()
    assert await failed(graph) == [("foreign_object", 1)]
    answer = await graph.client.get("/graph/v1/search", params={"q": "harbour"}, headers=graph.headers)
    assert answer.json()["hits"] == []


@pytest.mark.parametrize("other", [*ELSEWHERE[:3], "module"])
async def test_results_about_another_workspace_document_version_or_of_another_module_are_not_read(
    graph: GraphKit, other: str
) -> None:
    document = await graph.index(["some words"])
    module = "tagger" if other == "module" else "reader"
    workspace, about, version = place(graph, document, other)
    request = request_id(workspace, about, version, module, "extract")
    key = f"{results_folder(workspace, request)}1.json"
    info = await graph.objects.put(key, extraction_of(document, "Secret").model_dump_json().encode())
    event = ExtractionCompleted(
        request_id=request,
        document_id=document,
        version=1,
        module="reader",
        entities=2,
        relations=1,
        result_object=key,
        sha256=info.sha256,
    )
    await graph.hear(event)
    await graph.work()
    assert await failed(graph) == [("foreign_object", 1)]
    assert await graph.rows("select name from entity") == []


@pytest.mark.parametrize("url", ["https://elsewhere.example/chunks", chunks_url(uuid7(), 1)], ids=["host", "document"])
async def test_a_module_is_sent_to_the_chunks_of_the_document_and_nowhere_else(graph: GraphKit, url: str) -> None:
    parsed = await graph.parsed(uuid7(), 1, ["some words"])
    await graph.hear(parsed.model_copy(update={"chunks_url": url}))
    await graph.work()
    leased = await graph.lease("extract", "summarise")
    assert {job["chunks_url"] for job in leased} == {chunks_url(parsed.document_id, 1)}
    rows = await graph.rows(
        "select convert_from(data, 'UTF8')::jsonb ->> 'chunks_url' as url from outbox_log"
        " where type = 'ai.extraction.requested.v1'"
    )
    assert {row["url"] for row in rows} == {chunks_url(parsed.document_id, 1)}


async def test_a_rebuild_of_search_reads_no_chunks_of_others(graph: GraphKit, source: Source) -> None:
    before = await index(graph)
    parsed = next(each for each in source.documents.values() if each is not None)
    await source_names(graph, source, parsed)
    task = rebuild(graph, source.bus)
    await ordered(graph, task)
    await source.snapshot()
    with pytest.raises(RebuildIncomplete) as refused:
        await task
    assert refused.value.missing == (f"{graph.workspace}/{parsed.document_id}",)
    assert await index(graph) == before


async def source_names(graph: GraphKit, source: Source, parsed: DocumentParsed) -> None:
    """From now on the source tells of the same chunks as another workspace's."""
    key = f"{chunks_folder(uuid7(), parsed.document_id, parsed.version)}chunks.jsonl"
    await graph.objects.put(key, await graph.objects.get(parsed.chunks_object))
    source.documents[parsed.document_id] = parsed.model_copy(update={"chunks_object": key})


async def test_a_rebuild_of_links_reads_no_results_of_others(graph: GraphKit) -> None:
    document = await linked(graph)
    (row,) = await graph.rows("select id, result_object from ai_request where result_object is not null")
    key = f"{results_folder(uuid7(), row['id'])}1.json"
    await graph.objects.put(key, await graph.objects.get(row["result_object"]))
    await graph.rows("update ai_request set result_object = $2 where id = $1 returning id", row["id"], key)
    with pytest.raises(RebuildIncomplete, match=str(document)):
        await LinksAnew(graph.database, graph.objects).run()
