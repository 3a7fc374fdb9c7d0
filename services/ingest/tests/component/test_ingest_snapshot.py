"""All documents of all workspaces are told anew, once each, for a service that rebuilds what it derives."""

from uuid import UUID

import orjson
import pytest

from kgl_contracts.ingest import DocumentSnapshotted, DocumentsSnapshotEnded
from kgl_contracts.operations import SnapshotRequested
from kgl_contracts.topics import REPLAY_GRAPH_DOCUMENTS
from kgl_ingest.testing import Ingest
from kgl_ingest.use_cases import snapshot_documents
from kgl_servicekit.database.cause import Cause
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events import snapshot
from kgl_servicekit.events.subscription import DONE, SUPERSEDED, Verdict
from kgl_servicekit.ids import uuid7
from kgl_servicekit.jobs.runner import JobRunner
from kgl_servicekit.testing.orders import put_off


async def work(ingest: Ingest) -> None:
    await JobRunner(ingest.database, ingest.service.jobs, ingest.service.outside, worker="test").work_off()


async def order(ingest: Ingest, subscription: str = "graph.documents") -> tuple[Verdict, UUID]:
    ordered = uuid7()
    event = SnapshotRequested(snapshot_id=ordered, subscription=subscription)
    cause = Cause(id=ordered, kind="event", actor="service:graph")
    verdict = await ingest.database.run((), snapshot_documents.begin_snapshot, event, cause=cause)
    await work(ingest)
    return verdict, ordered


async def told(ingest: Ingest) -> list[tuple[str, UUID | None, UUID, dict[str, object]]]:
    async def read(tx: Transaction, _: None) -> list[tuple[str, UUID | None, UUID, dict[str, object]]]:
        rows = await tx.fetch("select * from outbox_log where topic = $1 order by id", REPLAY_GRAPH_DOCUMENTS.name)
        return [(row["type"], row["workspace_id"], row["event_id"], orjson.loads(row["data"])) for row in rows]

    return await ingest.database.run((), read, None)


async def upload(ingest: Ingest, text: str, workspace: UUID) -> UUID:
    answer = await ingest.client.post(
        "/ingest/v1/documents", json={"text": text}, headers=ingest.authority.user(workspace)
    )
    assert answer.status_code == 202, answer.text
    return UUID(answer.json()["subject"])


async def test_living_deleted_and_unparsed_documents_of_all_workspaces_are_told_once_each(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "PAGE", 2)  # three pages in one workspace, one of them empty
    other = uuid7()
    documents = [await upload(ingest, f"text number {n}", ingest.workspace) for n in range(4)]
    strange = await upload(ingest, "of somebody else", other)
    await work(ingest)
    url = f"/ingest/v1/documents/{documents[1]}"
    assert (await ingest.client.delete(url, headers=ingest.headers)).status_code == 202
    fresh = await upload(ingest, "not parsed yet", other)
    await ingest.database.run((), put_off, 1)
    verdict, ordered = await order(ingest)
    assert verdict == DONE
    events = await told(ingest)
    assert len({event_id for _, _, event_id, _ in events}) == len(events)
    assert {data["snapshot_id"] for _, _, _, data in events} == {str(ordered)}
    parts = {UUID(str(data["document_id"])): (ws, data) for type, ws, _, data in events[:-1]}
    assert {type for type, *_ in events[:-1]} == {DocumentSnapshotted.event_type}
    assert set(parts) == {*documents, strange, fresh}
    assert {ws for ws, _ in parts.values()} == {ingest.workspace, other}
    assert (parts[documents[1]][1]["deleted"], parts[documents[1]][1]["chunks_object"]) == (True, None)
    assert parts[fresh][1]["parsed_version"] is None
    living = parts[documents[0]][1]
    content = await ingest.service.outside.objects.get(str(living["chunks_object"]))
    assert b"text number 0" in content
    assert (living["parsed_version"], living["version"], living["deleted"]) == (1, 1, False)
    assert events[-1][0] == DocumentsSnapshotEnded.event_type
    assert (events[-1][1], events[-1][3]["count"]) == (None, 6)


async def test_a_system_without_documents_is_told_as_such(ingest: Ingest) -> None:
    await order(ingest)
    ((type, _, _, data),) = await told(ingest)
    assert (type, data["count"]) == (DocumentsSnapshotEnded.event_type, 0)


async def test_a_snapshot_for_another_topic_is_not_ours(ingest: Ingest) -> None:
    verdict, _ = await order(ingest, "content.documents")
    assert verdict == SUPERSEDED
    assert await told(ingest) == []


async def test_a_version_that_failed_to_parse_leaves_the_one_before_it_searchable(ingest: Ingest) -> None:
    document = await upload(ingest, "good words", ingest.workspace)
    await work(ingest)
    answer = await ingest.client.post(
        f"/ingest/v1/documents/{document}/versions",
        files={"file": ("broken.pdf", b"%PDF-1.7 nothing", "application/pdf")},
        headers=ingest.headers,
    )
    assert answer.status_code == 202, answer.text
    await work(ingest)
    await order(ingest)
    part = (await told(ingest))[0][3]
    assert (part["version"], part["parsed_version"]) == (2, 1)
