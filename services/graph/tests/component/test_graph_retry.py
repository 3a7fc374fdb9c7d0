"""A document whose indexing failed for good is indexed when its operation is retried."""

from datetime import UTC, datetime
from uuid import UUID

from kgl_contracts.envelope import Envelope
from kgl_contracts.operations import OperationRetried
from kgl_graph.testing import GraphKit
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import DONE, Event, Verdict
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.modules import told_stages

DOCUMENT = UUID("0198f3a0-0000-7000-8000-0000000000cc")
OPERATION = UUID("0198f3a0-0000-7000-8000-0000000000d0")


async def retried(graph: GraphKit) -> Verdict:
    """What graph makes of the decision."""
    data = OperationRetried(operation_id=OPERATION, services=("graph",))
    envelope = Envelope(
        id=uuid7(),
        type=data.event_type,
        source="ingest",
        time=datetime.now(UTC),
        workspace_id=graph.workspace,
        operation_id=OPERATION,
    )
    event = Event(data, envelope)
    (decisions,) = [each for each in graph.service.all_subscriptions if each.name == "graph.decisions"]
    handle = decisions.handlers[data.event_type].handle
    assert handle is not None

    async def hear(tx: Transaction, _: None) -> Verdict:
        return await handle(tx, event)

    return await graph.database.run(graph.workspace, hear, None, cause=event.cause)


async def replace(graph: GraphKit, key: str, content: bytes) -> None:
    await graph.objects.delete(key)
    await graph.objects.put(key, content)


async def test_a_document_whose_indexing_failed_is_found_after_a_retry(graph: GraphKit) -> None:
    parsed = await graph.parsed(DOCUMENT, 1, ["Ada wrote"])
    chunks = await graph.objects.get(parsed.chunks_object)
    await replace(graph, parsed.chunks_object, b"damaged")
    await graph.hear(parsed, OPERATION)
    await graph.work()
    assert (await told_stages(graph.database, OPERATION))["graph.index"] == "failed"
    await replace(graph, parsed.chunks_object, chunks)
    assert await retried(graph) == DONE
    assert (await told_stages(graph.database, OPERATION))["graph.index"] == "waiting"
    await graph.work()
    assert (await told_stages(graph.database, OPERATION))["graph.index"] == "done"
    hits = await graph.client.get("/graph/v1/search", params={"q": "Ada", "mode": "text"}, headers=graph.headers)
    assert [hit["snippet"] for hit in hits.json()["hits"]] == ["Ada wrote"]
