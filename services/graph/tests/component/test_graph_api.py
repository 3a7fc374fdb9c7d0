"""Search, triples, entities, paths, and requests to modules, over HTTP on a real database."""

import asyncio
from typing import Any

import pytest

from kgl_graph.testing import GraphKit, chunk_id
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.ids import uuid7


def triple(subject: str, object_: str, predicate: str = "requires") -> dict[str, Any]:
    return {
        "subject": {"name": subject, "type": "package"},
        "predicate": predicate,
        "object": {"name": object_, "type": "package"},
    }


async def put(graph: GraphKit, *triples: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
    answer = await graph.client.post("/graph/v1/triples", json={"triples": triples}, headers=headers or graph.headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def entity(graph: GraphKit, name: str) -> dict[str, Any]:
    answer = await graph.client.get("/graph/v1/entities", params={"name": name}, headers=graph.headers)
    found: dict[str, Any] = next(item for item in answer.json()["items"] if item["name"] == name)
    return found


async def path(graph: GraphKit, source: str, target: str, **params: Any) -> Any:
    ends = {"source": (await entity(graph, source))["id"], "target": (await entity(graph, target))["id"]}
    return await graph.client.get("/graph/v1/paths", params={**ends, **params}, headers=graph.headers)


async def test_triples_are_put_once_however_often_they_come(graph: GraphKit) -> None:
    triples = [triple("a", "b"), triple("a", "c"), triple("A ", "b")]
    first = await put(graph, *triples)
    assert first == {"entities": {"created": 3, "existing": 0}, "relations": {"created": 2, "existing": 0}}
    assert (await put(graph, *triples))["relations"] == {"created": 0, "existing": 2}
    stats = (await graph.client.get("/graph/v1/stats", headers=graph.headers)).json()
    assert (stats["entities"], stats["relations"]) == (3, 2)


async def test_concurrent_writers_of_the_same_triples_make_them_once(graph: GraphKit) -> None:
    names = [f"n{n}" for n in range(12)]
    bulks = [[triple(a, b) for a in names for b in names if a != b][n::3] for n in range(3)] * 3
    answers = await asyncio.gather(*(put(graph, *bulk) for bulk in bulks))
    assert sum(answer["relations"]["created"] for answer in answers) == 132
    assert sum(answer["entities"]["created"] for answer in answers) == 12


async def test_a_shortest_path_is_found_with_and_without_direction(graph: GraphKit) -> None:
    await put(graph, triple("a", "b"), triple("b", "c"), triple("c", "d"), triple("a", "x"), triple("d", "x"))
    short = (await path(graph, "a", "d")).json()
    assert [e["name"] for e in short["entities"]] == ["a", "x", "d"]
    directed = (await path(graph, "a", "d", directed=True)).json()
    assert [e["name"] for e in directed["entities"]] == ["a", "b", "c", "d"]
    assert (await path(graph, "a", "a")).json()["length"] == 0
    none = await path(graph, "d", "a", directed=True)
    assert (none.status_code, none.json()["code"]) == (404, "no_path")
    bounded = await path(graph, "a", "d", directed=True, max_length=2)
    assert bounded.json()["max_length"] == 2


async def test_neighbours_have_directions(graph: GraphKit) -> None:
    await put(graph, triple("a", "b"), triple("c", "a"), triple("a", "d", "likes"))
    me = await entity(graph, "a")

    async def names(**params: str) -> set[str]:
        answer = await graph.client.get(
            f"/graph/v1/entities/{me['id']}/neighbours", params=params, headers=graph.headers
        )
        return {item["entity"]["name"] for item in answer.json()["items"]}

    assert await names() == {"b", "c", "d"}
    assert await names(direction="out") == {"b", "d"}
    assert await names(direction="in") == {"c"}
    assert await names(predicate="likes") == {"d"}


async def test_what_is_not_there_is_404_and_the_same_for_another_workspace(graph: GraphKit) -> None:
    await put(graph, triple("a", "b"))
    document = await graph.index(["the harbour at night"])
    other = graph.authority.user(uuid7())
    me = await entity(graph, "a")
    for url in (f"/graph/v1/entities/{me['id']}", f"/graph/v1/entities/{me['id']}/neighbours"):
        assert (await graph.client.get(url, headers=other)).status_code == 404
    found = await graph.client.get("/graph/v1/search", params={"q": "harbour"}, headers=other)
    assert found.json() == {"hits": []}
    assert (await graph.client.get("/graph/v1/stats", headers=other)).json()["entities"] == 0
    mine = await graph.client.get("/graph/v1/search", params={"q": "harbour"}, headers=graph.headers)
    assert [hit["document_id"] for hit in mine.json()["hits"]] == [str(document)]


async def test_a_text_search_without_exactly_one_workspace_is_refused_by_the_database(graph: GraphKit) -> None:
    async def search(tx: Transaction, _: None) -> None:
        await tx.fetch("select * from kgl_search_text('x', 10)")

    for scope in ((), (uuid7(), uuid7())):
        with pytest.raises(Exception, match="one workspace"):
            await graph.database.run(scope, search, None)


async def test_search_ranks_by_words_and_meaning_and_shows_where(graph: GraphKit) -> None:
    pdf = await graph.index(["A library that reads and extracts text from PDF files."], "pypdf")
    await graph.index(["Bread is baked from flour, water and salt."], "bread")
    hits = (await graph.client.get("/graph/v1/search", params={"q": "extract PDF text"}, headers=graph.headers)).json()[
        "hits"
    ]
    assert hits[0]["document_id"] == str(pdf)
    assert hits[0]["ranks"] == {"text": 1, "vector": 1}
    words = {hits[0]["snippet"][a:b].casefold() for a, b in hits[0]["highlights"]}
    assert {"text", "extracts", "pdf"} <= words


async def test_a_module_leases_keeps_and_completes_a_request_once(graph: GraphKit) -> None:
    document = await graph.index(["Ada wrote the first program."])
    (job,) = await graph.lease("extract")
    assert await graph.lease("extract") == []
    span = {"chunk_id": str(chunk_id(document, 1, 0)), "start": 0, "end": 3}
    body = {
        "token": job["token"],
        "extraction": {"entities": [{"name": "Ada", "type": "person", "mentions": [span]}], "relations": []},
    }
    url = f"/modules/v1/jobs/{job['id']}"
    kept = await graph.client.post(f"{url}:heartbeat", json={"token": job["token"]}, headers=graph.headers)
    assert kept.status_code == 204
    for _ in range(2):
        answer = await graph.client.post(f"{url}:complete", json=body, headers=graph.headers)
        assert answer.status_code == 204, answer.text
    told = await graph.rows("select count(*) as n from outbox_log where type = 'ai.extraction.completed.v1'")
    assert told == [{"n": 1}]
    other = {**body, "extraction": {"entities": [], "relations": []}}
    assert (await graph.client.post(f"{url}:complete", json=other, headers=graph.headers)).status_code == 409


async def test_an_old_token_changes_nothing(graph: GraphKit) -> None:
    await graph.index(["Ada"])
    (job,) = await graph.lease("summarise")
    body = {"token": job["token"] + 1, "summary": {"title": "t", "text": "x"}}
    url = f"/modules/v1/jobs/{job['id']}"
    for verb, sent in (("complete", body), ("heartbeat", {"token": 99}), ("fail", {"token": 99, "code": "x"})):
        answer = await graph.client.post(f"{url}:{verb}", json=sent, headers=graph.headers)
        assert (answer.status_code, answer.json()["code"]) == (409, "lease_lost")


async def test_spans_outside_of_the_document_are_refused_by_name(graph: GraphKit) -> None:
    document = await graph.index(["short"])
    (job,) = await graph.lease("extract")
    wrong = {"chunk_id": str(chunk_id(document, 1, 0)), "start": 0, "end": 99}
    body = {"token": job["token"], "extraction": {"entities": [{"name": "A", "type": "x", "mentions": [wrong]}]}}
    answer = await graph.client.post(f"/modules/v1/jobs/{job['id']}:complete", json=body, headers=graph.headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "spans_wrong")
    assert answer.json()["errors"][0]["pointer"] == "#/extraction/entities/0/mentions/0"
    mismatch = {"token": job["token"], "summary": {"title": "t", "text": "x"}}
    answer = await graph.client.post(f"/modules/v1/jobs/{job['id']}:complete", json=mismatch, headers=graph.headers)
    assert answer.json()["code"] == "result_mismatch"


async def test_a_module_that_fails_is_asked_again_and_then_the_request_fails(graph: GraphKit) -> None:
    await graph.index(["text"])
    for attempt in range(1, 6):
        (job,) = await graph.lease("extract")
        assert job["attempt"] == attempt
        body = {"token": job["token"], "code": "too_hard", "retry": True}
        answer = await graph.client.post(f"/modules/v1/jobs/{job['id']}:fail", json=body, headers=graph.headers)
        assert answer.status_code == 204
    assert await graph.lease("extract") == []
    (row,) = await graph.rows("select state, error from ai_request where capability = 'extract'")
    assert row == {"state": "failed", "error": "too_hard"}


async def test_a_key_of_another_module_or_workspace_gets_nothing(graph: GraphKit) -> None:
    await graph.index(["text"])
    tagger = graph.authority.api_key(graph.workspace, module="tagger")
    assert await graph.lease("extract", headers=tagger) == []
    assert await graph.lease("extract", headers=graph.authority.api_key(uuid7(), module="reader")) == []
    (job,) = await graph.lease("extract")
    body = {"token": job["token"], "code": "x"}
    answer = await graph.client.post(f"/modules/v1/jobs/{job['id']}:fail", json=body, headers=tagger)
    assert (answer.status_code, answer.json()["code"]) == (404, "request_not_found")


async def test_a_key_that_speaks_for_no_module_may_work_for_one_that_it_names(graph: GraphKit) -> None:
    document = await graph.index(["text"])
    await graph.rows("update ai_request set module = 'tagger' where document_id = $1 returning id", document)
    body = {"module": "tagger", "capabilities": ["extract"]}
    (job,) = (await graph.client.post("/modules/v1/jobs:lease", json=body, headers=graph.headers)).json()["jobs"]
    done = {"token": job["token"], "extraction": {}}
    answer = await graph.client.post(f"/modules/v1/jobs/{job['id']}:complete", json=done, headers=graph.headers)
    assert answer.status_code == 204
    tagger = graph.authority.api_key(graph.workspace, module="tagger")
    named = {"module": "reader", "capabilities": ["extract"]}
    refused = await graph.client.post("/modules/v1/jobs:lease", json=named, headers=tagger)
    assert (refused.status_code, refused.json()["code"]) == (403, "module_mismatch")


async def test_the_gazetteer_lists_what_the_graph_knows(graph: GraphKit) -> None:
    await put(graph, triple("b", "a"))
    answer = await graph.client.get("/modules/v1/gazetteer", headers=graph.headers)
    assert [item["name"] for item in answer.json()["items"]] == ["a", "b"]
    again = await graph.client.get(
        "/modules/v1/gazetteer", headers={**graph.headers, "If-None-Match": answer.headers["etag"]}
    )
    assert again.status_code == 304
