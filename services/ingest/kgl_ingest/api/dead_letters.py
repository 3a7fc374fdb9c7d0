"""/dead-letters/v1: the events that no service could handle, of all services.

Members of a workspace see its own, and decide about those of public topics and of modules. Operators see those of
all workspaces, and of none; of what modules sent to others, or to nobody knows whom, they see neither data nor error
without breaking the glass.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import Depends, Query
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from kgl_contracts.dead_letters import Act, LetterState
from kgl_ingest.api.dead_letters_seen import OPERATOR, READ, WRITE, own_of, readable, shown, visible
from kgl_ingest.domain.dead_letters import (
    DeadLetterNotDead,
    DeadLetterNotFound,
    DecisionUnderWay,
    Grouping,
    Letter,
    LetterCount,
    LetterFilter,
    LetterSummary,
)
from kgl_ingest.use_cases.decide_dead_letters import Decide, DecideMany, decide, decide_many
from kgl_ingest.use_cases.read_dead_letters import (
    CountLetters,
    ListLetters,
    break_glass,
    count_letters,
    export_letters,
    list_letters,
    read_letter,
)
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.http import (
    ApiRouter,
    Caller,
    Page,
    PageParams,
    Reply,
    RequestCaller,
    Run,
    Runner,
    only_known_parameters,
    page,
)
from kgl_servicekit.identity.permissions import INSTANCE_WORKSPACE, grants
from kgl_servicekit.operations import Receipt

router = ApiRouter(tags=["dead letters"], dependencies=[Depends(only_known_parameters)])

Reason = Annotated[str, Field(min_length=1, max_length=500, pattern=r"\S", description="more than blanks")]
Word = Annotated[str | None, Query(max_length=300)]


class Discard(BaseModel):
    """Why it is given up; kept in the audit log."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason


class Correct(BaseModel):
    """What is handled instead of the data that came; it has to meet the contract of the event's type."""

    model_config = ConfigDict(extra="forbid")

    payload: JsonValue


class RedriveMany(BaseModel):
    """Which letters to try again: what they have in common, or `all`."""

    model_config = ConfigDict(extra="forbid")

    filter: LetterFilter = LetterFilter()
    all: bool = False

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        if self.filter.chooses == self.all:
            raise ValueError("say which by a filter with at least one field, or all: true")
        return self


class DiscardMany(RedriveMany):
    """Which letters to give up, and why."""

    reason: Reason


class Export(BaseModel):
    """Which letters are to be taken away with their data."""

    model_config = ConfigDict(extra="forbid")

    ids: tuple[UUID, ...] = Field(min_length=1, max_length=50)


class Exported(BaseModel):
    """Those of the letters that there are."""

    items: tuple[Letter, ...]


class ManyDecided(BaseModel):
    """The receipt of a decision about `letters` of them; with `more` there are others left: send it again."""

    receipt: Receipt
    letters: int
    more: bool


async def _filter(
    service: Word = None,
    subscription: Word = None,
    topic: Word = None,
    type: Word = None,
    reason: Annotated[
        str | None, Query(description="failed, rejected, unreadable, quarantined, too_old or gap", max_length=30)
    ] = None,
    error: Annotated[str | None, Query(description="a part of the error's text", max_length=300)] = None,
    key: Annotated[str | None, Query(max_length=600)] = None,
    state: Annotated[LetterState | None, Query(description="without it: dead and retrying")] = None,
    workspace_id: Annotated[UUID | None, Query(description="for operators, who see all")] = None,
    operation_id: Annotated[UUID | None, Query(description="the receipt that the event belongs to")] = None,
    dead_at_gte: datetime | None = None,
    dead_at_lt: datetime | None = None,
) -> LetterFilter:
    return LetterFilter(
        service=service,
        subscription=subscription,
        topic=topic,
        type=type,
        reason=reason,
        error=error,
        key=key,
        state=state,
        workspace_id=workspace_id,
        operation_id=operation_id,
        dead_at_gte=dead_at_gte,
        dead_at_lt=dead_at_lt,
    )


Chosen = Annotated[LetterFilter, Depends(_filter)]


@router.get("", permission=READ, or_instance=OPERATOR)
async def get_letters(window: PageParams, chosen: Chosen, caller: Caller, run: Run) -> Page[LetterSummary]:
    """Dead letters, those that died last first."""
    before = None
    if window.position is not None:
        before = (datetime.fromisoformat(window.position[0]), UUID(window.position[1]))
    asked = ListLetters(chosen=chosen, limit=window.fetch, before=before, own=own_of(caller))
    rows = await run(list_letters, asked, workspaces=await visible(caller, run))
    found = [row if readable(row, caller) else row.model_copy(update={"error": None}) for row in rows]
    return page(found, window.limit, lambda row: [row.dead_at.isoformat(), str(row.id)])


@router.get("/counts", permission=READ, or_instance=OPERATOR)
async def get_counts(
    chosen: Chosen,
    caller: Caller,
    run: Run,
    by: Annotated[
        list[Grouping] | None, Query(description="repeatable; without it by all but day and workspace")
    ] = None,
) -> Page[LetterCount]:
    """How many there are of each kind, the largest group first; numbers and ids in errors count as the same."""
    groups: Sequence[Grouping] = by or ("service", "subscription", "topic", "type", "reason", "error")
    asked = CountLetters(chosen=chosen, by=groups, own=own_of(caller))
    return Page(items=tuple(await run(count_letters, asked, workspaces=await visible(caller, run))))


@router.get("/{letter_id}", permission=READ, or_instance=OPERATOR, problems=[DeadLetterNotFound])
async def get_letter(letter_id: UUID, caller: Caller, run: Run) -> Letter:
    """One letter: headers, data as JSON and as they came, error, attempts, and what waits behind it."""
    return shown(await run(read_letter, letter_id, workspaces=await visible(caller, run)), caller)


@router.post(":export", permission=READ, or_instance=OPERATOR, problems=[DeadLetterNotFound])
async def post_export(body: Export, caller: Caller, run: Run) -> Exported:
    """Letters with their data, many at once; the audit log of their workspace says who took them away."""

    async def exported(tx: Transaction, ids: Sequence[UUID]) -> Exported:
        return Exported(items=tuple(shown(letter, caller) for letter in await export_letters(tx, ids)))

    return await run(exported, tuple(dict.fromkeys(body.ids)), workspaces=await visible(caller, run))


@router.post("/{letter_id}:break-glass", permission="instance:break-glass", problems=[DeadLetterNotFound])
async def post_break_glass(letter_id: UUID, body: Discard, caller: Caller, run: Run) -> Letter:
    """One letter with data that may hold text of others; the audit log of its workspace says who read it, and why."""
    return await run(break_glass, (letter_id, body.reason), workspaces=await visible(caller, run))


@router.post(
    "/{letter_id}:redrive",
    status_code=202,
    permission=WRITE,
    or_instance=OPERATOR,
    problems=[DeadLetterNotFound, DeadLetterNotDead, DecisionUnderWay],
)
async def post_redrive(letter_id: UUID, caller: Caller, run: Run) -> Receipt:
    """Try it again, for this subscription alone; what waits behind it follows in order.

    Of a gap it means that the missing events are given up.
    """
    return await _decided(caller, run, letter_id, "redrive")


@router.post(
    "/{letter_id}:discard",
    status_code=202,
    permission=WRITE,
    or_instance=OPERATOR,
    problems=[DeadLetterNotFound, DeadLetterNotDead, DecisionUnderWay],
)
async def post_discard(letter_id: UUID, body: Discard, caller: Caller, run: Run) -> Receipt:
    """Give it up: it is settled without an effect, and what waits behind it follows.

    Where its source still says what it told, that is drift, and the repair of it or a rebuild brings its effect.
    """
    return await _decided(caller, run, letter_id, "discard", reason=body.reason)


@router.post(
    "/{letter_id}:correct",
    status_code=202,
    permission=WRITE,
    or_instance=OPERATOR,
    problems=[DeadLetterNotFound, DeadLetterNotDead, DecisionUnderWay],
)
async def post_correct(letter_id: UUID, body: Correct, caller: Caller, run: Run) -> Receipt:
    """Put other data beside those that came; a redrive and every rebuild take them."""
    return await _decided(caller, run, letter_id, "correct", payload=body.payload)


@router.post(":redrive", status_code=202, permission=WRITE, or_instance=OPERATOR, problems=[DeadLetterNotFound])
async def post_redrive_many(body: RedriveMany, caller: Caller, run: Run) -> ManyDecided:
    """Try the dead ones again that are like this, the oldest 400 of them."""
    return await _many_decided(caller, run, body.filter, "redrive", None)


@router.post(":discard", status_code=202, permission=WRITE, or_instance=OPERATOR, problems=[DeadLetterNotFound])
async def post_discard_many(body: DiscardMany, caller: Caller, run: Run) -> ManyDecided:
    """Give the dead ones up that are like this, the oldest 400 of them."""
    return await _many_decided(caller, run, body.filter, "discard", body.reason)


def _receipts_of(caller: RequestCaller) -> UUID:
    return caller.workspace_if_named or INSTANCE_WORKSPACE


async def _decided(
    caller: RequestCaller,
    run: Runner,
    letter_id: UUID,
    act: Act,
    *,
    reason: str | None = None,
    payload: JsonValue = None,
) -> Receipt:
    command = Decide(
        letter_id=letter_id,
        act=act,
        workspace=_receipts_of(caller),
        operator=grants(caller.permissions, OPERATOR),
        reason=reason,
        payload=payload,
    )
    return await run(decide, command, reply=_location, workspaces=await visible(caller, run))


async def _many_decided(
    caller: RequestCaller, run: Runner, chosen: LetterFilter, act: Act, reason: str | None
) -> ManyDecided:
    async def decided(tx: Transaction, command: DecideMany) -> ManyDecided:
        receipt, letters, more = await decide_many(tx, command)
        return ManyDecided(receipt=receipt, letters=letters, more=more)

    command = DecideMany(
        chosen=chosen,
        act=act,
        workspace=_receipts_of(caller),
        own=own_of(caller),
        operator=grants(caller.permissions, OPERATOR),
        reason=reason,
    )
    return await run(
        decided, command, reply=lambda made: _location(made.receipt), workspaces=await visible(caller, run)
    )


def _location(receipt: Receipt) -> Reply:
    return Reply(headers={"Location": f"/operations/v1/{receipt.id}"})
