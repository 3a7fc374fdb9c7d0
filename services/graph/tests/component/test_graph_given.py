"""Results that a module gives by an event: the door is another, what follows is the same."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from kgl_contracts.ai import ExtractedEntity, Extraction, Span, Summary
from kgl_contracts.catalogue import asyncapi
from kgl_contracts.envelope import Envelope
from kgl_contracts.given import ExtractionGiven, SummaryGiven
from kgl_contracts.topics import MODULE_RESULTS, module_topic
from kgl_graph.consumers.modules import module_subscriptions
from kgl_graph.settings import GraphSettings
from kgl_graph.testing import GraphKit, chunk_id
from kgl_servicekit.database.cause import Cause
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import DONE, SUPERSEDED, Event, Reject, Verdict
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.modules import hear_module


async def give(
    graph: GraphKit,
    data: ExtractionGiven | SummaryGiven,
    *,
    topic_of: str = "reader",
    source: str = "reader",
    id: UUID | None = None,
    workspace: UUID | None = None,
) -> Verdict:
    """Handle an event on a module's topic as the consumer does."""
    (subscription,) = module_subscriptions([topic_of])
    envelope = Envelope(
        id=id or uuid7(),
        type=data.event_type,
        source=source,
        time=datetime.now(UTC),
        workspace_id=workspace or graph.workspace,
    )
    cause = Cause(id=envelope.id, kind="event", actor=f"module:{source}", at=envelope.time)

    async def apply(tx: Transaction, _: None) -> Verdict:
        return await subscription.handlers[data.event_type].handle(tx, Event(data, envelope))

    return await graph.database.run(workspace or graph.workspace, apply, None, cause=cause)


async def request_of(graph: GraphKit, document: UUID, capability: str = "extract") -> dict[str, Any]:
    (row,) = await graph.rows(
        "select * from ai_request where document_id = $1 and capability = $2", document, capability
    )
    return row


def found(document: UUID, name: str, *, end: int = 9) -> Extraction:
    span = Span(chunk_id=chunk_id(document, 1, 0), start=0, end=end)
    return Extraction(entities=(ExtractedEntity(name=name, type="place", mentions=(span,)),))


async def test_a_result_by_an_event_is_linked_and_told_once(graph: GraphKit) -> None:
    document = await graph.index(["Rotterdam is a harbour."])
    request = await request_of(graph, document)
    data = ExtractionGiven(request_id=request["id"], document_id=document, extraction=found(document, "Rotterdam"))
    event = uuid7()
    assert await give(graph, data, id=event) == DONE
    assert await give(graph, data, id=event) == DONE
    await graph.work()
    assert (await request_of(graph, document))["state"] == "done"
    told = await graph.rows("select 1 from outbox_log where type = 'ai.extraction.completed.v1'")
    assert len(told) == 1
    different = data.model_copy(update={"extraction": found(document, "Antwerp")})
    assert await give(graph, different, id=event) == SUPERSEDED


async def test_an_id_that_another_workspace_had_used_already_swallows_no_result(graph: GraphKit) -> None:
    event = uuid7()
    for workspace in (graph.workspace, uuid7()):
        graph.workspace, graph.headers = workspace, graph.authority.user(workspace)
        document = await graph.index(["Rotterdam is a harbour."])
        request = await request_of(graph, document)
        data = ExtractionGiven(request_id=request["id"], document_id=document, extraction=found(document, "Rotterdam"))
        assert await give(graph, data, id=event) == DONE
        await graph.work()
        assert (await request_of(graph, document))["state"] == "done"


async def test_an_id_that_another_module_had_used_already_swallows_no_result(graph: GraphKit) -> None:
    await hear_module(graph.database, graph.workspace, "tagger", "summarise")
    document, event = await graph.index(["Rotterdam is a harbour."]), uuid7()
    extract, summarise = await request_of(graph, document), await request_of(graph, document, "summarise")
    summary = Summary(title="Harbours", text="Rotterdam is one.")
    given = SummaryGiven(request_id=summarise["id"], document_id=document, summary=summary)
    assert await give(graph, given, topic_of="tagger", source="tagger", id=event) == DONE
    read = ExtractionGiven(request_id=extract["id"], document_id=document, extraction=found(document, "Rotterdam"))
    assert await give(graph, read, id=event) == DONE
    await graph.work()
    assert {row["state"] for row in await graph.rows("select state from ai_request")} == {"done"}


async def test_a_summary_by_an_event_is_told(graph: GraphKit) -> None:
    document = await graph.index(["Rotterdam is a harbour."])
    request = await request_of(graph, document, "summarise")
    summary = Summary(title="Harbours", text="Rotterdam is one.")
    assert await give(graph, SummaryGiven(request_id=request["id"], document_id=document, summary=summary)) == DONE
    await graph.work()
    told = await graph.rows("select 1 from outbox_log where type = 'ai.content.generated.v1'")
    assert len(told) == 1


async def test_an_answer_that_comes_before_the_chunks_waits_for_them(graph: GraphKit) -> None:
    document = uuid7()
    await graph.hear(await graph.parsed(document, 1, ["Rotterdam is a harbour."]))
    request = await request_of(graph, document)
    data = ExtractionGiven(request_id=request["id"], document_id=document, extraction=found(document, "Rotterdam"))
    assert request["state"] == "waiting"
    assert await give(graph, data) == DONE
    await graph.rows("update job set run_at = now() + interval '1 hour' where kind = 'graph.index' returning 1")
    await graph.work()
    later = await graph.rows("select 1 from job where kind = 'graph.take' and state = 'queued' and run_at > now()")
    assert len(later) == 1
    await graph.rows("update job set run_at = now() where kind = 'graph.index' returning 1")
    await graph.work()
    await graph.rows("update job set run_at = now() where kind = 'graph.take' returning 1")
    await graph.work()
    assert (await request_of(graph, document))["state"] == "done"


async def test_places_outside_of_the_document_end_the_request(graph: GraphKit) -> None:
    document = await graph.index(["Short."])
    request = await request_of(graph, document)
    data = ExtractionGiven(request_id=request["id"], document_id=document, extraction=found(document, "X", end=999))
    assert await give(graph, data) == DONE
    await graph.work()
    ended = await request_of(graph, document)
    assert (ended["state"], ended["error"]) == ("failed", "spans_wrong")


async def test_what_contradicts_the_topic_the_workspace_or_the_request_is_rejected(graph: GraphKit) -> None:
    document = await graph.index(["Rotterdam is a harbour."])
    request = await request_of(graph, document)
    data = ExtractionGiven(request_id=request["id"], document_id=document, extraction=Extraction())
    wrong_kind = SummaryGiven(request_id=request["id"], document_id=document, summary=Summary(title="t", text="x"))
    rejected = [
        (await give(graph, data, source="other"), "the topic is that of 'reader'"),
        (await give(graph, data, topic_of="stranger", source="stranger"), "is not enabled"),
        (await give(graph, data, workspace=uuid7()), "no such request"),
        (await give(graph, data.model_copy(update={"document_id": uuid7()})), "no such request"),
        (await give(graph, wrong_kind), "the request is to extract"),
    ]
    for verdict, said in rejected:
        assert isinstance(verdict, Reject)
        assert said in verdict.reason
    assert (await request_of(graph, document))["state"] == "ready"


async def test_an_answer_by_an_event_takes_the_request_from_who_leased_it(graph: GraphKit) -> None:
    document = await graph.index(["Rotterdam is a harbour."])
    (leased,) = await graph.lease("extract")
    data = ExtractionGiven(request_id=UUID(leased["id"]), document_id=document, extraction=found(document, "Rotterdam"))
    assert await give(graph, data) == DONE
    await graph.work()
    late = await graph.client.post(
        f"/modules/v1/jobs/{leased['id']}:complete",
        json={"token": leased["token"], "extraction": {}},
        headers=graph.headers,
    )
    assert (late.status_code, late.json()["code"]) == (409, "lease_lost")


async def test_over_http_the_same_event_has_the_same_effect(graph: GraphKit) -> None:
    document, operation = uuid7(), uuid7()
    await graph.hear(await graph.parsed(document, 1, ["Rotterdam is a harbour."]), operation)
    await graph.work()
    request = await request_of(graph, document)
    data = ExtractionGiven(request_id=request["id"], document_id=document, extraction=found(document, "Rotterdam"))
    event = {
        "id": str(uuid7()),
        "type": data.event_type,
        "source": "reader",
        "specversion": "1.0",
        "data": data.model_dump(mode="json"),
    }

    async def post(**changes: Any) -> tuple[int, Any]:
        answer = await graph.client.post("/modules/v1/results", json={**event, **changes}, headers=graph.headers)
        return answer.status_code, answer.json().get("state") or answer.json()["code"]

    assert await post(source="stranger") == (422, "result_rejected")
    assert await post(type="x.reader.note.made.v1") == (422, "invalid")
    assert await post(data={**event["data"], "request_id": str(uuid7())}) == (422, "result_rejected")  # type: ignore[dict-item]
    for _ in range(2):
        assert await post() == (202, "accepted")
    await graph.work()
    assert (await request_of(graph, document))["state"] == "done"
    assert await post() == (202, "superseded")
    answer = await graph.client.post("/modules/v1/results", json=event, headers=graph.headers)
    assert answer.json()["operation_id"] == str(operation)
    told = await graph.rows("select 1 from outbox_log where type = 'ai.extraction.completed.v1'")
    assert len(told) == 1


def test_the_operator_names_the_modules_and_each_has_a_topic_of_its_own() -> None:
    settings = GraphSettings(database_url="x", bus_url="x", env="test", kafka_modules="tagger, other,")
    subscriptions = module_subscriptions(settings.kafka_module_names)
    assert [s.topic for s in subscriptions] == [module_topic("tagger"), module_topic("other")]
    assert not any(s.topic.sequenced for s in subscriptions)
    with pytest.raises(ValueError, match="no name of a module"):
        module_subscriptions(["../x"])
    assert not module_topic("tagger").carries(module_topic("other"))
    assert asyncapi()["channels"]["kgl.in"]["address"] == MODULE_RESULTS.name
