"""Operations that are cancelled before and after their document is parsed, and those that cannot be."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from kgl_contracts.operations import OperationStarted, PlannedStage, Progress, StageState, Subject
from kgl_ingest.jobs.declared import ParseDocument
from kgl_ingest.testing import Ingest, manifest
from kgl_ingest.use_cases.read_receipt import read_receipt
from kgl_ingest.use_cases.record_parsed import RecordParsed, record_parsed
from kgl_ingest.use_cases.record_progress import RecordProgress, record_progress
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.ids import uuid7
from kgl_servicekit.jobs.job import Job, LeaseLost
from kgl_servicekit.operations import Receipt
from kgl_servicekit.testing.events import running
from kgl_servicekit.testing.jobs import claim_work
from kgl_servicekit.testing.orders import interleavings
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.races import until_waiting


async def receipt_in(ingest: Ingest, operation: str, state: str) -> dict[str, Any] | None:
    found: dict[str, Any] = (await ingest.client.get(f"/operations/v1/{operation}", headers=ingest.headers)).json()
    return found if found.get("state") == state else None


async def stage_done(ingest: Ingest, operation: str, name: str) -> bool:
    receipt = (await ingest.client.get(f"/operations/v1/{operation}", headers=ingest.headers)).json()
    return any(stage["name"] == name and stage["state"] == "done" for stage in receipt["stages"])


async def test_a_cancelled_operation_ends_with_all_its_stages_and_its_document_is_never_parsed(ingest: Ingest) -> None:
    receipt = (await ingest.upload("never mind")).json()
    cancelled = await ingest.client.post(f"/operations/v1/{receipt['id']}:cancel", headers=ingest.headers)
    assert cancelled.status_code == 202
    again = await ingest.client.post(f"/operations/v1/{receipt['id']}:cancel", headers=ingest.headers)
    assert (again.status_code, again.json()["code"]) == (409, "operation_ended")
    anew = await ingest.upload("never mind")
    assert anew.status_code == 202
    worker = asyncio.create_task(ingest.service.work())
    try:
        await eventually(lambda: stage_done(ingest, anew.json()["id"], "ingest.parse"))
        ended = await eventually(lambda: receipt_in(ingest, receipt["id"], "cancelled"))
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    assert {stage["state"] for stage in ended["stages"]} == {"cancelled"}
    shown = await ingest.client.get(f"/ingest/v1/documents/{receipt['subject']}", headers=ingest.headers)
    assert shown.json()["state"] == "cancelled"


async def cancel(ingest: Ingest, operation: str | UUID, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """Status, and the code of a refusal or the receipt."""
    answer = await ingest.client.post(f"/operations/v1/{operation}:cancel", headers=headers or ingest.headers)
    return answer.status_code, answer.json()["code"] if answer.status_code >= 400 else answer.json()


async def told(ingest: Ingest) -> list[str]:
    """What was told of documents."""

    async def read(tx: Transaction, _: None) -> list[str]:
        rows = await tx.fetch("select type from outbox_log where topic = 'kgl.documents' order by id")
        return [row["type"].removeprefix("ingest.document.").removesuffix(".v1") for row in rows]

    return await ingest.database.run(ingest.workspace, read, None)


async def report(ingest: Ingest, operation: str, state: StageState, *stages: str) -> None:
    """What other services report."""
    moved = [
        Progress(
            workspace_id=ingest.workspace, operation_id=UUID(operation), stage=stage, state=state, at=datetime.now(UTC)
        )
        for stage in stages
    ]
    await ingest.database.run(ingest.workspace, record_progress, RecordProgress(moved=moved))


async def parsed(ingest: Ingest, text: str) -> dict[str, Any]:
    """The receipt of a document that is parsed, as it is known to the list."""
    receipt: dict[str, Any] = (await ingest.upload(text)).json()
    async with running(ingest.service.work):
        await eventually(lambda: stage_done(ingest, receipt["id"], "ingest.parse"))
    return receipt


OF_GRAPH = ("graph.extract.reader", "graph.link.reader", "graph.summarise.reader", "content.draft.reader")


async def test_what_is_parsed_is_cancelled_by_graph_and_its_receipt_ends_when_that_has(ingest: Ingest) -> None:
    receipt = await parsed(ingest, "parsed already")
    status, shown = await cancel(ingest, receipt["id"])
    assert (status, shown["id"], shown["state"]) == (202, receipt["id"], "running")
    assert (await cancel(ingest, receipt["id"]))[0] == 202  # asked for twice, it is told twice, and done once
    assert await told(ingest) == ["accepted", "parsed", "cancelled", "cancelled"]
    await report(ingest, receipt["id"], "cancelled", *OF_GRAPH)
    assert await receipt_in(ingest, receipt["id"], "running")
    await report(ingest, receipt["id"], "done", "graph.index")
    assert await receipt_in(ingest, receipt["id"], "cancelled")
    assert await cancel(ingest, receipt["id"]) == (409, "operation_ended")
    document = await ingest.client.get(f"/ingest/v1/documents/{receipt['subject']}", headers=ingest.headers)
    assert document.json()["state"] == "parsed"
    assert (
        await ingest.client.delete(f"/ingest/v1/documents/{receipt['subject']}", headers=ingest.headers)
    ).status_code == 202
    assert (await told(ingest))[-1] == "deleted"


async def test_a_cancellation_that_comes_when_all_stages_have_ended_changes_nothing(ingest: Ingest) -> None:
    receipt = await parsed(ingest, "all done")
    assert (await cancel(ingest, receipt["id"]))[0] == 202
    await report(ingest, receipt["id"], "done", "graph.index", *OF_GRAPH)
    await report(ingest, receipt["id"], "cancelled", *OF_GRAPH)  # whatever order the reports come in
    assert await receipt_in(ingest, receipt["id"], "done")
    assert await cancel(ingest, receipt["id"]) == (409, "operation_ended")


async def test_reports_of_a_cancelled_operation_end_it_once_and_alike_in_every_order(ingest: Ingest) -> None:
    """Those of graph, of which some come again after a crash, and of content; each keeps its own order."""
    graph: tuple[tuple[StageState, tuple[str, ...]], ...] = (
        ("done", ("graph.index", "graph.summarise.reader")),
        ("cancelled", ("graph.extract.reader", "graph.link.reader")),
        ("cancelled", ("graph.extract.reader", "graph.link.reader")),
    )
    content: tuple[tuple[StageState, tuple[str, ...]], ...] = (
        ("running", ("content.draft.reader",)),
        ("done", ("content.draft.reader",)),
    )
    receipt = await parsed(ingest, "in every order")
    plan = (await ingest.client.get(f"/operations/v1/{receipt['id']}", headers=ingest.headers)).json()["stages"]
    for order in interleavings(graph, content):
        operation = uuid7()
        started = OperationStarted(
            operation_id=operation,
            kind="ingest.document",
            subject=Subject(type="document", id=uuid7()),
            stages=tuple(PlannedStage(name=stage["name"], required=stage["required"]) for stage in plan),
            started_at=datetime.now(UTC),
        )
        command = RecordProgress(started=[(ingest.workspace, started)])
        await ingest.database.run(ingest.workspace, record_progress, command)
        await report(ingest, str(operation), "done", "ingest.parse")
        for state, stages in order:
            await report(ingest, str(operation), state, *stages)
        assert await receipt_in(ingest, str(operation), "cancelled")
        assert [end.state for end in await ingest.ends(operation)] == ["cancelled"], order


async def test_the_rest_of_what_failed_in_part_can_be_cancelled(ingest: Ingest) -> None:
    receipt = await parsed(ingest, "failed in part")
    await report(ingest, receipt["id"], "failed", "graph.extract.reader")
    assert await receipt_in(ingest, receipt["id"], "failed")
    assert (await cancel(ingest, receipt["id"]))[0] == 202
    assert (await told(ingest))[-1] == "cancelled"


async def test_parsing_that_ends_while_it_is_cancelled_is_cancelled_by_graph(ingest: Ingest) -> None:
    receipt = (await ingest.upload("at the same time")).json()
    (claimed,) = await claim_work(ingest.database, kind=ParseDocument.kind)
    job = Job(ingest.database, claimed, ParseDocument.model_validate(claimed.data), "ingest/test")
    begun, go = asyncio.Event(), asyncio.Event()

    async def end(tx: Transaction, data: RecordParsed) -> None:
        begun.set()
        await go.wait()
        await record_parsed(tx, data)

    ending = asyncio.create_task(job.finish(end, manifest(UUID(receipt["subject"]))))
    await begun.wait()
    cancelling = asyncio.create_task(cancel(ingest, receipt["id"]))
    await until_waiting(ingest.database)
    go.set()
    await ending
    assert (await cancelling)[0] == 202
    assert await told(ingest) == ["accepted", "parsed", "cancelled"]


async def test_parsing_that_ends_after_it_was_cancelled_has_no_effect(ingest: Ingest) -> None:
    receipt = (await ingest.upload("too late")).json()
    (claimed,) = await claim_work(ingest.database, kind=ParseDocument.kind)
    job = Job(ingest.database, claimed, ParseDocument.model_validate(claimed.data), "ingest/test")
    assert (await cancel(ingest, receipt["id"]))[0] == 202
    with pytest.raises(LeaseLost):
        await job.finish(record_parsed, manifest(UUID(receipt["subject"])))
    assert await told(ingest) == ["accepted"]


async def test_what_is_unknown_or_anothers_cannot_be_cancelled(ingest: Ingest) -> None:
    receipt = (await ingest.upload("mine")).json()
    stranger, reader = ingest.authority.user(uuid7()), ingest.authority.user(ingest.workspace, "documents:read")
    assert await cancel(ingest, receipt["id"], stranger) == (404, "operation_not_found")
    assert (await cancel(ingest, receipt["id"], reader))[0] == 403
    assert await cancel(ingest, uuid4()) == (404, "operation_not_found")


async def test_a_deletion_cannot_be_cancelled_nor_what_it_deletes(ingest: Ingest) -> None:
    receipt = await parsed(ingest, "going")
    deleting = (await ingest.client.delete(f"/ingest/v1/documents/{receipt['subject']}", headers=ingest.headers)).json()
    assert await cancel(ingest, receipt["id"]) == (409, "operation_ended")
    async with running(ingest.service.work):
        await eventually(lambda: stage_done(ingest, deleting["id"], "ingest.erase"))
    assert await cancel(ingest, deleting["id"]) == (409, "operation_not_cancellable")


async def test_what_another_service_has_just_begun_is_waited_for_and_cannot_be_cancelled(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation, looked = uuid7(), asyncio.Event()

    async def look(tx: Transaction, operation: UUID) -> Receipt | None:
        looked.set()
        return await read_receipt(tx, operation)

    monkeypatch.setattr("kgl_ingest.api.operations.read_receipt", look)
    cancelling = asyncio.create_task(cancel(ingest, operation))
    await asyncio.wait_for(looked.wait(), 5)
    started = OperationStarted(
        operation_id=operation,
        kind="publish.redeliver",
        subject=Subject(type="delivery", id=uuid7()),
        stages=(PlannedStage(name="publish.deliver"),),
        started_at=datetime.now(UTC),
    )
    command = RecordProgress(started=[(ingest.workspace, started)])
    await ingest.database.run(ingest.workspace, record_progress, command)
    assert await cancelling == (409, "operation_not_cancellable")
