"""The audit log of the workspace."""

from typing import Annotated, Literal

from fastapi import Query

from kgl_auth.api.cursors import number_before
from kgl_auth.db.audit import AuditFilter, list_records
from kgl_auth.domain.audit_chain import ChainedRecord
from kgl_auth.domain.identity import AuditEntry, Moment
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.http import ApiRouter, Caller, Page, PageParams, Run, Window, page

router = ApiRouter(prefix="/audit", tags=["audit"])

Word = Annotated[str | None, Query(max_length=300)]


@router.get("", permission="audit:read")
async def list_audit(
    caller: Caller,
    run: Run,
    window: PageParams,
    actor: Word = None,
    action: Word = None,
    target: Word = None,
    outcome: Literal["allowed", "denied"] | None = None,
    at_gte: Annotated[Moment | None, Query(description="from this time on")] = None,
    at_lt: Annotated[Moment | None, Query(description="before this time")] = None,
) -> Page[AuditEntry]:
    """Who did what, newest first; each record's hash covers the one before it."""
    wanted = AuditFilter(actor=actor, action=action, target=target, outcome=outcome, at_gte=at_gte, at_lt=at_lt)

    async def listed(tx: Transaction, asked: Window) -> list[AuditEntry]:
        scope = str(caller.workspace_id)
        return [_shown(each) for each in await list_records(tx, scope, wanted, number_before(asked), asked.fetch)]

    return page(await run(listed, window), window.limit, lambda entry: entry.number)


def _shown(chained: ChainedRecord) -> AuditEntry:
    record = {name: value for name, value in chained.record.items() if name != "scope"}
    hashes = {"prev_hash": chained.prev_hash.hex(), "hash": chained.hash.hex()}
    return AuditEntry(number=chained.number, **record, **hashes)
