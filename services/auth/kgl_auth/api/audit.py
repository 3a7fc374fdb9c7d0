"""The audit log of the workspace, and whether it is what was written."""

from typing import Annotated, Literal

from fastapi import Query

from kgl_auth.api.cursors import number_before
from kgl_auth.audit_verification import Verified, verify_chain
from kgl_auth.db.audit import AuditFilter, list_records
from kgl_auth.domain.audit_chain import INSTANCE, ChainedRecord, ChainHead
from kgl_auth.domain.identity import AuditEntry, Moment, Shown
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.http import ApiRouter, Caller, Page, PageParams, Run, Window, page

router = ApiRouter(tags=["audit"])

_SLOW = 300.0  # seconds: some ten thousand records are verified in one
_COST = 60

Word = Annotated[str | None, Query(max_length=300)]
KeptHead = Annotated[
    str | None,
    Query(pattern=r"^[0-9]{1,18}:[0-9a-f]{64}$", description="<number>:<hash> of a head that you kept earlier"),
]


class Head(Shown):
    """The newest record of a chain; 0 and zeros before the first."""

    number: int
    hash: str


class Break(Shown):
    """The first place where the chain does not hold."""

    number: int
    reason: str


class AuditVerification(Shown):
    """Whether the log is what was written, and how many records are known to be."""

    verified: bool
    records: int
    head: Head
    first_broken: Break | None


@router.get("/audit", permission="audit:read")
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


@router.get("/audit:verify", permission="audit:read", cache="no-store", cost=_COST, deadline=_SLOW)
async def verify_audit(caller: Caller, run: Run, expected_head: KeptHead = None) -> AuditVerification:
    """Recompute every hash of the workspace's log: a record edited, deleted, inserted or moved is named.

    Keep `head`, and send it as `expected_head` the next time: so a log that was cut or rewritten as a whole
    is found, too.
    """
    return _verification(await verify_chain(run.read, str(caller.workspace_id), _kept(expected_head)))


@router.get("/instance/audit:verify", permission="instance:audit", cache="no-store", cost=_COST, deadline=_SLOW)
async def verify_instance_audit(run: Run, expected_head: KeptHead = None) -> AuditVerification:
    """The same for the log of the instance: logins, accounts, signing keys."""
    return _verification(await verify_chain(run.read, INSTANCE, _kept(expected_head)))


def _kept(expected_head: str | None) -> ChainHead | None:
    if expected_head is None:
        return None
    number, _, hash = expected_head.partition(":")
    return ChainHead(int(number), bytes.fromhex(hash))


def _verification(found: Verified) -> AuditVerification:
    broken = found.broken
    return AuditVerification(
        verified=broken is None,
        records=found.records,
        head=Head(number=found.head.number, hash=found.head.hash.hex()),
        first_broken=None if broken is None else Break(number=broken.number, reason=broken.reason),
    )


def _shown(chained: ChainedRecord) -> AuditEntry:
    record = {name: value for name, value in chained.record.items() if name != "scope"}
    hashes = {"prev_hash": chained.prev_hash.hex(), "hash": chained.hash.hex()}
    return AuditEntry(number=chained.number, **record, **hashes)
