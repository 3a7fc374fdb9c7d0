"""/modules/v1: modules lease requests and answer them, without any broker."""

import hashlib
import time
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from kgl_contracts.ai import Extraction, Summary
from kgl_graph.api.outside_of import OutsideOf
from kgl_graph.db import reading
from kgl_graph.domain.graph import Entity
from kgl_graph.domain.results import result_key
from kgl_graph.use_cases.answer_request import (
    Complete,
    Fail,
    Held,
    LeasedRequest,
    LeaseLost,
    LeaseRequests,
    RequestNotFound,
    ResultMismatch,
    SpansWrong,
    check_result,
    complete_request,
    extend_lease,
    fail_request,
    lease_requests,
)
from kgl_graph.use_cases.record_indexed import REQUESTS_READY
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Forbidden
from kgl_servicekit.http import ApiRouter, Caller, Page, PageParams, RequestCaller, Run, page
from kgl_servicekit.identity.permissions import INSTANCE_WORKSPACE
from kgl_servicekit.waiting import wait_until_set

router = ApiRouter(tags=["modules"])


class ModuleMismatch(Forbidden, code="module_mismatch", status=403):
    """Your API key speaks for another module; leave `module` out, or name that one."""


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LeaseBody(_Body):
    """What a module can do, and how much of it it takes now. Times are seconds."""

    module: str | None = Field(default=None, max_length=64, description="needed where the key names none")
    capabilities: tuple[Literal["extract", "summarise"], ...] = Field(min_length=1)
    max: int = Field(default=1, ge=1, le=32)
    lease_seconds: float = Field(default=60, ge=5, le=300)
    wait_seconds: float = Field(default=0, ge=0, le=20, description="how long to wait for a first request")


class HeartbeatBody(_Body):
    """A lease to be kept."""

    token: int
    lease_seconds: float = Field(default=60, ge=5, le=300)


class CompleteBody(_Body):
    """A result: `extraction` or `summary`, as the capability asks."""

    token: int
    extraction: Extraction | None = None
    summary: Summary | None = None


class FailBody(_Body):
    """Why there is no result."""

    token: int
    code: str = Field(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9_]*$")
    message: str = Field(default="", max_length=2000)
    retry: bool = True


class Leased(_Body):
    """Requests that are yours now."""

    jobs: tuple[LeasedRequest, ...]


class GazetteerEntry(_Body):
    """A name that the workspace's graph knows."""

    name: str
    type: str
    aliases: tuple[str, ...]


class _After(_Body):
    after: tuple[str, UUID] | None
    limit: int


def _module(caller: RequestCaller, named: str | None) -> str:
    if caller.module is not None and named not in {None, caller.module}:
        raise ModuleMismatch
    return caller.module or named or "reader"


@router.post("/jobs:lease", permission="modules:work", deadline=40.0)
async def lease(body: LeaseBody, caller: Caller, request: Request) -> Leased:
    """Take requests to work on. A key of the whole installation gets those of all workspaces."""
    module = _module(caller, body.module)
    command = LeaseRequests(
        module=module,
        capabilities=body.capabilities,
        most=body.max,
        holder=f"{module}@{caller.principal}",
        seconds=body.lease_seconds,
    )
    database = request.app.state.database
    ready = database.signals.subscribe(REQUESTS_READY)
    until = time.monotonic() + body.wait_seconds
    try:
        while True:
            ready.clear()
            workspaces = [caller.workspace_id]
            if caller.workspace_id == INSTANCE_WORKSPACE:
                workspaces = await database.run((), _workspaces_with_requests, command)
            found = await database.run(workspaces, lease_requests, command) if workspaces else []
            left = until - time.monotonic()
            if found or left <= 0:
                return Leased(jobs=tuple(found))
            await wait_until_set(ready, min(left, 2.0))
    finally:
        database.signals.unsubscribe(REQUESTS_READY, ready)


_ANSWERS = [RequestNotFound, LeaseLost]


@router.post("/jobs/{request_id}:heartbeat", status_code=204, permission="modules:work", problems=_ANSWERS)
async def heartbeat(request_id: UUID, body: HeartbeatBody, caller: Caller, run: Run) -> None:
    """Keep a lease while the work goes on."""
    held = Held(id=request_id, token=body.token, module=caller.module)
    await run(extend_lease, (held, body.lease_seconds))


@router.post(
    "/jobs/{request_id}:complete",
    status_code=204,
    permission="modules:work",
    problems=[*_ANSWERS, ResultMismatch, SpansWrong],
    deadline=60.0,
)
async def complete(request_id: UUID, body: CompleteBody, caller: Caller, run: Run, outside: OutsideOf) -> None:
    """Give a result. It is stored, then recorded in one transaction; sending it again has no second effect."""
    result = body.extraction if body.summary is None else body.summary
    if result is None or (body.extraction is not None and body.summary is not None):
        raise ResultMismatch(errors=[])
    held = Held(id=request_id, token=body.token, module=caller.module)
    await run.read(check_result, (held, result))
    content = result.model_dump_json().encode()
    sha256 = hashlib.sha256(content).hexdigest()
    key = result_key(caller.workspace_id, request_id, sha256)
    await outside.objects.put(key, content)
    command = Complete(id=held.id, token=held.token, module=held.module, result=result, object=key, sha256=sha256)
    await run(complete_request, command)


@router.post("/jobs/{request_id}:fail", status_code=204, permission="modules:work", problems=_ANSWERS)
async def fail(request_id: UUID, body: FailBody, caller: Caller, run: Run) -> None:
    """Say that there is no result; with `retry` somebody may try again."""
    await run(
        fail_request, Fail(id=request_id, token=body.token, module=caller.module, code=body.code, retry=body.retry)
    )


@router.get("/gazetteer", permission="modules:work")
async def get_gazetteer(window: PageParams, run: Run) -> Page[GazetteerEntry]:
    """All names that the workspace's graph knows, for modules that look for them in texts."""
    after = None if window.position is None else (window.position[0], UUID(window.position[1]))
    found = await run(_entities, _After(after=after, limit=window.fetch))
    listed = page(found, window.limit, lambda row: [row[0], str(row[1].id)])
    entries = [GazetteerEntry(name=e.name, type=e.type, aliases=e.aliases) for _, e in listed.items]
    return Page(items=tuple(entries), next=listed.next)


async def _entities(tx: Transaction, asked: _After) -> list[tuple[str, Entity]]:
    return await reading.list_entities(tx, prefix=None, type=None, after=asked.after, limit=asked.limit)


async def _workspaces_with_requests(tx: Transaction, command: LeaseRequests) -> list[UUID]:
    found: list[UUID] = await tx.fetchval(
        "select kgl_request_workspaces($1, $2)", [command.module], list(command.capabilities)
    )
    return found
