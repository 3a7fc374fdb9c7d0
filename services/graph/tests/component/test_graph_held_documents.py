"""A document is erased although an event about it is a dead letter; the letter finds that it is superseded."""

from datetime import UTC, datetime
from uuid import UUID

from kgl_contracts.envelope import Envelope
from kgl_contracts.event import EventData
from kgl_contracts.topics import DOCUMENTS
from kgl_graph.consumers.documents import graph_documents
from kgl_graph.testing import GraphKit, deleted
from kgl_graph.testing_links import linked
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.bus.port import Record
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.dead_letters import DeadLetter, correct, redrive
from kgl_servicekit.events.redrive import Redriver
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.events import held, held_key_count, running
from kgl_servicekit.testing.modules import told_stages
from kgl_servicekit.testing.polling import eventually


def record(graph: GraphKit, event: EventData, sequence: int, operation: UUID, value: bytes | None = None) -> Record:
    envelope = Envelope(
        id=uuid7(),
        type=event.event_type,
        source="ingest",
        time=datetime.now(UTC),
        workspace_id=graph.workspace,
        operation_id=operation,
        sequence=sequence,
    )
    data = event.model_dump_json().encode() if value is None else value
    return Record(topic=DOCUMENTS.name, key=event.key, headers=envelope.headers(), value=data)


async def test_a_document_goes_although_the_news_of_its_newest_version_are_a_dead_letter(graph: GraphKit) -> None:
    document, indexed, erased = await linked(graph), uuid7(), uuid7()
    second = await graph.parsed(document, 2, ["other words"])
    bus = MemoryBus()
    await bus.declare([DOCUMENTS])
    bus.append(record(graph, second, 1, indexed, value=b"{"))
    bus.append(record(graph, deleted(document, 2), 2, erased))

    async def told(operation: UUID, stage: str) -> str | None:
        return (await told_stages(graph.database, operation)).get(stage)

    async def erasing() -> bool:
        return await told(erased, "graph.erase") == "running"

    async with running(SubscriptionRunner(graph.database, bus, graph_documents).run):
        await eventually(erasing)
    await graph.work()
    assert await told(erased, "graph.erase") == "done"
    for table in ("chunk", "mention", "entity", "relation"):
        assert await graph.rows(f"select 1 from {table}") == [], table
    (row,) = await held(graph.database)
    assert (row["state"], row["reason"]) == ("dead", "unreadable")

    letter = DeadLetter(graph_documents, row["id"])
    await graph.database.run((), correct, (letter, second.model_dump_json().encode()))
    await graph.database.run((), redrive, letter)
    assert await told(indexed, "graph.index") == "running"
    await Redriver(graph.database, graph_documents).work_off()
    assert await held_key_count(graph.database) == 0
    assert await told(indexed, "graph.index") == "superseded"
    await graph.work()
    assert await graph.rows("select 1 from chunk") == []
