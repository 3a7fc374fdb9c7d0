"""What failed of an operation is done again: its jobs, by those who may, and not its dead letters."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from kgl_contracts.operations import OperationRetried, OperationStarted, PlannedStage, Progress, StageState, Subject
from kgl_ingest.parsing.sandbox import ParserSandbox
from kgl_ingest.testing import Ingest
from kgl_ingest.use_cases.record_progress import RecordProgress, record_progress
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import JobFailed
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.events import running
from kgl_servicekit.testing.polling import eventually


async def retry(ingest: Ingest, operation: str | UUID, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """Status, and the code of a refusal or the receipt."""
    answer = await ingest.client.post(f"/operations/v1/{operation}:retry", headers=headers or ingest.headers)
    return answer.status_code, answer.json()["code"] if answer.status_code >= 400 else answer.json()


async def receipt_in(ingest: Ingest, operation: str | UUID, state: str) -> dict[str, Any] | None:
    found: dict[str, Any] = (await ingest.client.get(f"/operations/v1/{operation}", headers=ingest.headers)).json()
    return found if found.get("state") == state else None


async def begin(ingest: Ingest, kind: str, *stages: str) -> UUID:
    """An operation of another service's work."""
    started = OperationStarted(
        operation_id=uuid7(),
        kind=kind,
        subject=Subject(type="document", id=uuid7()),
        stages=tuple(PlannedStage(name=stage) for stage in stages),
        started_at=datetime.now(UTC),
    )
    command = RecordProgress(started=[(ingest.workspace, started)])
    await ingest.database.run(ingest.workspace, record_progress, command)
    return started.operation_id


async def report(ingest: Ingest, operation: UUID, stage: str, state: StageState, error: str | None = None) -> None:
    moved = Progress(
        workspace_id=ingest.workspace,
        operation_id=operation,
        stage=stage,
        state=state,
        error=error,
        at=datetime.now(UTC),
    )
    await ingest.database.run(ingest.workspace, record_progress, RecordProgress(moved=[moved]))


async def decided(ingest: Ingest) -> list[tuple[UUID, OperationRetried]]:
    """What the services were told, each with its workspace."""

    async def read(tx: Transaction, _: None) -> list[tuple[UUID, OperationRetried]]:
        sql = "select workspace_id, data from outbox_log where type = $1 order by id"
        rows = await tx.fetch(sql, OperationRetried.event_type)
        return [(row["workspace_id"], OperationRetried.model_validate_json(row["data"])) for row in rows]

    return await ingest.database.run((), read, None)


async def test_what_failed_is_done_again_as_the_next_run_and_its_end_is_told_again(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise JobFailed("bug", "A bug of ours.")

    mended = ParserSandbox.parse
    monkeypatch.setattr(ParserSandbox, "parse", broken)
    accepted = (await ingest.upload("once more")).json()
    operation = UUID(accepted["id"])
    async with running(ingest.service.work):
        failed = await eventually(lambda: receipt_in(ingest, operation, "failed"))
        assert failed["ended_at"] is not None
        monkeypatch.setattr(ParserSandbox, "parse", mended)
        status, shown = await retry(ingest, operation)
        assert (status, shown["id"]) == (202, accepted["id"])
        await eventually(lambda: receipt_in(ingest, operation, "running"))
        assert await retry(ingest, operation) == (409, "nothing_failed")
        again = await eventually(lambda: _parsed(ingest, operation))
        assert (again["state"], again["ended_at"]) == ("running", None)
        (parse,) = [stage for stage in again["stages"] if stage["name"] == "ingest.parse"]
        assert (parse["run"], parse["attempt"], parse["error"]) == (2, 1, None)
    document = await ingest.client.get(f"/ingest/v1/documents/{accepted['subject']}", headers=ingest.headers)
    assert (document.json()["state"], document.json()["error"]) == ("parsed", None)
    for stage in accepted["stages"]:
        await report(ingest, operation, stage["name"], "done")
    assert await receipt_in(ingest, operation, "done")
    assert [end.state for end in await ingest.ends(operation)] == ["failed", "done"]
    assert await retry(ingest, operation) == (409, "nothing_failed")


async def _parsed(ingest: Ingest, operation: UUID) -> dict[str, Any] | None:
    found: dict[str, Any] = (await ingest.client.get(f"/operations/v1/{operation}", headers=ingest.headers)).json()
    return found if any(s["name"] == "ingest.parse" and s["state"] == "done" for s in found["stages"]) else None


async def test_the_services_whose_jobs_failed_are_told(ingest: Ingest) -> None:
    operation = await begin(ingest, "ingest.delete", "ingest.erase", "graph.erase", "content.unlink")
    await report(ingest, operation, "graph.erase", "failed", "timeout")
    await report(ingest, operation, "content.unlink", "failed", "handler_failed")
    await report(ingest, operation, "ingest.erase", "done")
    assert (await retry(ingest, operation))[0] == 202
    assert await decided(ingest) == [(ingest.workspace, OperationRetried(operation_id=operation, services=("graph",)))]


async def test_what_failed_as_a_dead_letter_or_is_no_job_is_not_retried(ingest: Ingest) -> None:
    for kind, stage, error in (
        ("ingest.delete", "content.unlink", "handler_failed"),
        ("ingest.document", "graph.index", "rejected"),
        ("dead_letter.redrive", f"graph.redrive.{uuid7()}", "dead_again"),
        ("publish.redeliver", f"publish.deliver.{uuid7()}", "endpoint_gone"),
    ):
        operation = await begin(ingest, kind, stage)
        await report(ingest, operation, stage, "failed", error)
        assert await retry(ingest, operation) == (409, "operation_not_retryable"), kind
    assert await decided(ingest) == []


async def test_who_may_not_do_the_act_may_not_have_it_done_again(ingest: Ingest) -> None:
    operation = await begin(ingest, "ingest.delete", "ingest.erase")
    await report(ingest, operation, "ingest.erase", "failed", "job_error")
    reader, writer = (
        ingest.authority.user(ingest.workspace, *permissions)
        for permissions in (("documents:read",), ("documents:write",))
    )
    assert (await retry(ingest, operation, reader))[0] == 403
    assert (await retry(ingest, operation, writer))[0] == 403
    assert await retry(ingest, operation, ingest.authority.user(uuid7())) == (404, "operation_not_found")
    assert await retry(ingest, uuid7_of_long_ago()) == (404, "operation_not_found")
    assert await decided(ingest) == []
    deleter = ingest.authority.user(ingest.workspace, "documents:write", "documents:delete")
    assert (await retry(ingest, operation, deleter))[0] == 202


def uuid7_of_long_ago() -> UUID:
    return UUID("0198f3a0-0000-7000-8000-0000000000aa")
