"""/operations/v1: the receipts of all services.

Members of a workspace see its own. Operators who name no workspace see those of all, and of the instance: names, ids,
codes and times, nothing that documents say.
"""

import time
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query
from starlette.requests import Request

from kgl_ingest.domain.receipts import Kind, KnownReceipt, ReceiptFilter, State
from kgl_ingest.use_cases.cancel_operation import (
    OperationEnded,
    OperationNotCancellable,
    OperationNotFound,
    cancel_operation,
)
from kgl_ingest.use_cases.read_receipt import ListReceipts, list_receipts, read_receipt, workspaces_with_operations
from kgl_ingest.use_cases.record_progress import RECEIPTS_MOVED
from kgl_ingest.use_cases.retry_operation import NothingFailed, OperationNotRetryable, Retry, retry_operation
from kgl_servicekit.http import (
    ApiRouter,
    Caller,
    Page,
    PageParams,
    RequestCaller,
    Run,
    Runner,
    only_known_parameters,
    page,
)
from kgl_servicekit.identity.permissions import INSTANCE_WORKSPACE, grants
from kgl_servicekit.ids import uuid7_age
from kgl_servicekit.operations import Receipt
from kgl_servicekit.waiting import wait_until_set

router = ApiRouter(tags=["operations"], dependencies=[Depends(only_known_parameters)])

OPERATOR = "instance:operations"
_YOUNG = 60.0  # seconds within which an accepted receipt may still be on its way to the list
_PATIENCE = 5.0


@router.get("", permission="operations:read", or_instance=OPERATOR)
async def get_operations(
    window: PageParams,
    caller: Caller,
    run: Run,
    state: State | None = None,
    kind: Kind | None = None,
    subject: Annotated[str | None, Query(description="id of what the operation works on", max_length=300)] = None,
    workspace_id: Annotated[UUID | None, Query(description="for operators, who see all")] = None,
    created_at_gte: datetime | None = None,
    created_at_lt: datetime | None = None,
    overdue: Annotated[bool | None, Query(description="whether a stage is past its deadline")] = None,
) -> Page[KnownReceipt]:
    """Receipts, newest first; of all workspaces and of the instance for an operator who names no workspace."""
    before = None
    if window.position is not None:
        before = (datetime.fromisoformat(window.position[0]), UUID(window.position[1]))
    chosen = ReceiptFilter(
        state=state,
        kind=kind,
        subject=subject,
        workspace_id=workspace_id,
        created_at_gte=created_at_gte,
        created_at_lt=created_at_lt,
        overdue=overdue,
    )
    own = caller.workspace_if_named if workspace_id is None else None
    visible = await _visible(caller, run) if own is None else [own]
    asked = ListReceipts(chosen=chosen, limit=window.fetch, before=before)
    found = await run(list_receipts, asked, workspaces=visible)
    return page(found, window.limit, lambda row: [row.created_at.isoformat(), str(row.id)])


@router.get(
    "/{operation_id}", permission="operations:read", or_instance=OPERATOR, problems=[OperationNotFound], deadline=70.0
)
async def get_operation(
    operation_id: UUID,
    request: Request,
    caller: Caller,
    run: Run,
    wait: Annotated[float, Query(ge=0, le=60, description="seconds to wait for the end")] = 0.0,
) -> KnownReceipt:
    """One receipt. With `wait` the answer comes when it has ended, or after so many seconds.

    A receipt that was handed out less than a minute ago is waited for, since its event may be on the way.
    """
    receipt = await _known(request, caller, run, operation_id, wait)
    if receipt is None:
        raise OperationNotFound
    return receipt


@router.post(
    "/{operation_id}:cancel",
    status_code=202,
    permission="documents:write",
    problems=[OperationNotFound, OperationEnded, OperationNotCancellable],
)
async def post_cancel(operation_id: UUID, request: Request, caller: Caller, run: Run) -> Receipt:
    """Cancel the work on a document, also what is queued or running; the receipt ends soon after.

    What is not parsed is not parsed any more. Of a parsed document the requests that no module has answered are
    withdrawn; it stays searchable, with what was made of the answers that had come, and can be deleted. The receipt
    ends as cancelled, or as done where all was done by then.
    """
    try:
        return await run(cancel_operation, operation_id)
    except OperationNotFound:
        if await _known(request, caller, run, operation_id, 0.0) is None:
            raise
        raise OperationNotCancellable from None  # the work on a document is known from its first moment


@router.post(
    "/{operation_id}:retry",
    status_code=202,
    permission="documents:write",
    or_instance=OPERATOR,
    problems=[OperationNotFound, NothingFailed, OperationNotRetryable],
)
async def post_retry(operation_id: UUID, request: Request, caller: Caller, run: Run) -> Receipt:
    """Have what failed of the work on a document, or of its deletion, done again, as the next run of its stages.

    The receipt goes on a moment later, and its end is told again. Events that could not be handled are not tried
    again: they are dead letters. Of a deletion it needs documents:delete.
    """
    if await _known(request, caller, run, operation_id, 0.0) is None:
        raise OperationNotFound
    operator = grants(caller.permissions, OPERATOR)
    asked = Retry(operation_id=operation_id, permissions=caller.permissions, operator=operator)
    return await run(retry_operation, asked, workspaces=await _visible(caller, run))


async def _known(
    request: Request, caller: RequestCaller, run: Runner, operation_id: UUID, wait: float
) -> KnownReceipt | None:
    """A receipt once it has ended, or after `wait` seconds; one that may be on its way is waited for."""
    asked = time.monotonic()
    age = uuid7_age(operation_id, time.time())
    patience = _PATIENCE if age is not None and age < _YOUNG else 0.0
    signals = request.app.state.database.signals
    moved = signals.subscribe(RECEIPTS_MOVED)
    try:
        while True:
            moved.clear()
            receipt = await run.read(read_receipt, operation_id, workspaces=await _visible(caller, run))
            if receipt is not None and (receipt.state != "running" or time.monotonic() - asked >= wait):
                return receipt
            left = asked + (patience if receipt is None else wait) - time.monotonic()
            if left <= 0:
                return receipt
            await wait_until_set(moved, min(left, 1.0))
    finally:
        signals.unsubscribe(RECEIPTS_MOVED, moved)


async def _visible(caller: RequestCaller, run: Runner) -> list[UUID]:
    """The workspaces whose receipts the caller may see."""
    if not grants(caller.permissions, OPERATOR):
        return [caller.workspace_id]
    return sorted({INSTANCE_WORKSPACE, *await run.read(workspaces_with_operations, None)})
