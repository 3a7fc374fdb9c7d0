"""Modules lease requests, keep them, and answer them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg
from pydantic import BaseModel, ConfigDict

from kgl_contracts.ai import ContentGenerated, Extraction, ExtractionCompleted, Span, Summary
from kgl_contracts.operations import StageState
from kgl_graph.db import documents, requests
from kgl_graph.use_cases.hear_document import following_stage_of, stage_of
from kgl_graph.use_cases.record_indexed import REQUESTS_READY
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Conflict, Invalid, NotFound

ATTEMPTS = 5


class RequestNotFound(NotFound, code="request_not_found", status=404):
    """There is no such request for your module in this workspace."""


class LeaseLost(Conflict, code="lease_lost", status=409):
    """This lease is over: the request was given to somebody else, or needs no answer any more. Drop the result."""


class SpansWrong(Invalid, code="spans_wrong", status=422):
    """Some spans are outside of the chunks of this document version; `errors` names them."""


class ResultMismatch(Invalid, code="result_mismatch", status=422):
    """Send `extraction` for the capability extract, `summary` for summarise, and only that one."""


class LeasedRequest(BaseModel):
    """A request that is yours until `lease_until`; its token goes with every answer."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    token: int
    capability: Literal["extract", "summarise"]
    document_id: UUID
    version: int
    workspace_id: UUID
    chunks_url: str
    lease_until: datetime
    deadline_at: datetime
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRequests:
    """Which requests to take, for whom and for how long (seconds)."""

    module: str
    capabilities: tuple[str, ...]
    most: int
    holder: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A request as its holder names it. A key that speaks for no module may answer for any (`module` is None)."""

    id: UUID
    token: int
    module: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete(Held):
    """A result: stored already, under `object`, with this hash."""

    result: Extraction | Summary
    object: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail(Held):
    """Why the module has no result; with `retry` it may be asked again."""

    code: str
    retry: bool


async def lease_requests(tx: Transaction, command: LeaseRequests) -> list[LeasedRequest]:
    """Take ready requests of the transaction's workspaces."""
    rows = await requests.lease(
        tx, [command.module], command.capabilities, command.most, command.holder, command.seconds
    )
    for row in rows:
        await tx.report(
            stage_of(row["capability"], row["module"]),
            "running",
            operation=row["operation_id"],
            workspace=row["workspace_id"],
            attempt=row["attempt"],
            holder=command.holder,
        )
    return [LeasedRequest(**{name: row[name] for name in LeasedRequest.model_fields}) for row in rows]


async def extend_lease(tx: Transaction, command: tuple[Held, float]) -> None:
    """Keep a lease for so many seconds; raises LeaseLost."""
    held, seconds = command
    if not await requests.extend(tx, held.id, held.token, seconds):
        raise LeaseLost


async def check_result(tx: Transaction, command: tuple[Held, Extraction | Summary]) -> None:
    """See whether a result would be taken, before it is stored.

    Raises RequestNotFound, LeaseLost, ResultMismatch, SpansWrong.
    """
    held, result = command
    row = await _held(tx, held, done_too=True)
    if isinstance(result, Extraction) != (row["capability"] == "extract"):
        raise ResultMismatch(errors=[])
    lengths = await documents.chunk_lengths(tx, row["document_id"], row["version"])
    wrong = [
        {"pointer": pointer, "detail": f"chunk {span.chunk_id} has no characters {span.start} to {span.end}"}
        for pointer, span in _spans(result)
        if span.end > lengths.get(span.chunk_id, -1)
    ]
    if wrong:
        raise SpansWrong(errors=wrong[:20])


async def complete_request(tx: Transaction, command: Complete) -> None:
    """Record the result and tell everyone; the same result again is the same answer. Raises LeaseLost."""
    row = await _held(tx, command, done_too=True)
    if row["state"] == "done":
        if row["result_sha256"] != command.sha256:
            raise LeaseLost
        return
    await requests.end(tx, command.id, "done", result_object=command.object, result_sha256=command.sha256)
    stage = stage_of(row["capability"], row["module"])
    await tx.report(stage, "done", operation=row["operation_id"], attempt=row["attempt"])
    about = {
        "request_id": command.id,
        "document_id": row["document_id"],
        "version": row["version"],
        "module": row["module"],
        "result_object": command.object,
        "sha256": command.sha256,
    }
    if isinstance(command.result, Extraction):
        found = command.result
        event: ExtractionCompleted | ContentGenerated = ExtractionCompleted(
            **about, entities=len(found.entities), relations=len(found.relations)
        )
    else:
        event = ContentGenerated(**about, kind="summary")
    await tx.emit(event, operation=row["operation_id"])


async def fail_request(tx: Transaction, command: Fail) -> None:
    """Give the request back, or end it when the module cannot do it or has failed too often. Raises LeaseLost."""
    row = await _held(tx, command)
    await fail_row(tx, row, command.code, retry=command.retry)


async def fail_row(tx: Transaction, row: asyncpg.Record, code: str, *, retry: bool) -> None:
    """One more failed attempt of a locked request; optional ones end as skipped, with the stage that would follow."""
    stage = stage_of(row["capability"], row["module"])
    report = {"operation": row["operation_id"], "workspace": row["workspace_id"], "attempt": max(1, row["attempt"])}
    if retry and row["failures"] + 1 < ATTEMPTS:
        await requests.give_back(tx, row["id"], code, failed=True)
        await tx.report(stage, "retrying", error=code, **report)
        tx.notify(REQUESTS_READY)
        return
    state: StageState = "skipped" if row["mode"] == "optional" else "failed"
    await requests.end(tx, row["id"], state, error=code)
    await tx.report(stage, state, error=code, **report)
    if state == "skipped":
        following = following_stage_of(row["capability"], row["module"])
        await tx.report(following, "skipped", operation=row["operation_id"], workspace=row["workspace_id"])


async def sweep(tx: Transaction, _: None) -> int:
    """Give back leases that are over, and end requests past their deadline; the answer is how many."""
    rows = await requests.overdue(tx)
    for row in rows:
        one = tx.scoped(tx.cause, (row["workspace_id"],))
        if row["lease_until"] is not None and row["deadline_at"] > tx.now:
            await fail_row(one, row, "lease_expired", retry=True)
        else:
            await fail_row(one, row, "deadline_passed", retry=False)
    return len(rows)


async def _held(tx: Transaction, held: Held, *, done_too: bool = False) -> asyncpg.Record:
    row = await requests.lock(tx, held.id)
    if row is None or held.module not in {None, row["module"]}:
        raise RequestNotFound
    states = {"leased", "done"} if done_too else {"leased"}
    if row["state"] not in states or row["token"] != held.token:
        raise LeaseLost
    return row


def _spans(result: Extraction | Summary) -> list[tuple[str, Span]]:
    """All spans of a result, by where they stand in it."""
    if isinstance(result, Summary):
        return [(f"#/summary/sources/{n}", span) for n, span in enumerate(result.sources)]
    found = [
        (f"#/extraction/entities/{n}/mentions/{m}", span)
        for n, entity in enumerate(result.entities)
        for m, span in enumerate(entity.mentions)
    ]
    found += [
        (f"#/extraction/relations/{n}/evidence/{m}", span)
        for n, relation in enumerate(result.relations)
        for m, span in enumerate(relation.evidence)
    ]
    return found
