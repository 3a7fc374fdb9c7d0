"""What is told of dead letters: ingest keeps one list of those of all services, made from these events.

The news of a letter leave in the transaction that changes its held event, in order, under an id that its record
always gives. Letters about letters are not told, or a fault in the list would tell of itself for ever; metrics
count them like all others.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from kgl_contracts.dead_letters import (
    DeadLetterMoved,
    DeadLetterNoted,
    FailedEvent,
    LetterState,
    WaitingEvent,
    packed,
    stage_of,
)
from kgl_contracts.envelope import EVENT_LIMIT
from kgl_contracts.operations import StageState
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.ids import derived_id

MOST_WAITING = 1000  # counted behind a letter
_SHOWN = 20
_ERROR_LIMIT = 2000
_HEADER_LIMIT = 300

_NEWS = f"""
select e.*, w.waiting, w.following
from held_event e
cross join lateral (
    select count(*)::int as waiting,
           coalesce(jsonb_agg(b.shown order by b.place) filter (where b.place <= {_SHOWN}), '[]') as following
    from (
        select row_number() over (order by epoch, sequence, id) as place,
               jsonb_build_object('id', event_id, 'type', type, 'sequence', sequence, 'since', first_at) as shown
        from held_event h
        where h.subscription = e.subscription and h.topic = e.topic and h.key = e.key and h.state = 'waiting'
        order by epoch, sequence, id limit {MOST_WAITING}
    ) b
) w
where e.subscription = $1 and e.topic = $2 and e.key = any($3::text[]) and (e.state = 'dead' or e.letter is not null)
  and (e.type is null or e.type not like 'operations.dead\\_letter.%')
order by e.id
"""

_UNTOLD = """
select distinct subscription, key from held_event
where subscription = any($1::text[]) and state = 'dead' and letter is null
  and (type is null or type not like 'operations.dead\\_letter.%')
order by 1, 2
"""


async def tell(tx: Transaction, subscription: str, topic: str, keys: Sequence[str]) -> None:
    """Tell of the letters of these keys what was not told yet: that they are dead, how they stand, what waits."""
    for row in await tx.fetch(_NEWS, subscription, topic, sorted(set(keys))):
        told = f"{row['state']} {row['attempts']} {row['waiting']}"
        if told == row["told"]:
            continue
        if row["letter"] is None:
            letter = _letter_id(row)
            await _emit(tx, row, _noted(tx, row, letter))
        else:
            letter = row["letter"]
            waiting = tuple(WaitingEvent.model_validate(each) for each in row["following"])
            await _emit(tx, row, _moved(tx, row, row["state"], waiting=row["waiting"], next_waiting=waiting))
        await tx.execute("update held_event set letter = $2, told = $3 where id = $1", row["id"], letter, told)


async def untold_keys(tx: Transaction, subscriptions: Sequence[str]) -> list[tuple[str, str]]:
    """Subscription and key of the letters that nobody was told of."""
    rows = await tx.fetch(_UNTOLD, subscriptions)
    return [(row["subscription"], row["key"]) for row in rows]


async def tell_end(tx: Transaction, row: asyncpg.Record, state: LetterState, note: str | None = None) -> None:
    """Tell that a letter is one no more: it was handled, or given up."""
    if row["letter"] is not None:
        await _emit(tx, row, _moved(tx, row, state, note=note, waiting=0))


async def tell_corrected(tx: Transaction, row: asyncpg.Record, value: bytes) -> None:
    """Tell what is to be handled instead of the data that came."""
    if row["letter"] is not None:
        await _emit(tx, row, _moved(tx, row, row["state"], corrected=packed(value)))


async def report_redrive(
    tx: Transaction,
    row: asyncpg.Record,
    state: StageState,
    *,
    error: str | None = None,
    next_retry_at: datetime | None = None,
) -> None:
    """Tell the receipt of the decision to redrive, if one led to this attempt, how it goes."""
    if row["redrive_operation"] is not None:
        await tx.report(
            stage_of(tx.service, "redrive", row["letter"]),
            state,
            operation=row["redrive_operation"],
            workspace=row["redrive_workspace"],
            attempt=max(1, row["attempts"]),
            error=error,
            next_retry_at=next_retry_at,
        )


def _letter_id(row: asyncpg.Record) -> UUID:
    """The id of the letter that a held event is, the same each time that its record fails."""
    place = (row["topic"], row["incarnation"], row["partition"], row["offset"])
    return derived_id("dead letter", row["subscription"], *place)


async def _emit(tx: Transaction, row: asyncpg.Record, event: DeadLetterNoted | DeadLetterMoved) -> None:
    workspace = row["workspace_id"]
    await tx.emit(event, workspace=workspace, operation=row["operation_id"], instance=workspace is None)


def _moved(tx: Transaction, row: asyncpg.Record, state: LetterState, **news: object) -> DeadLetterMoved:
    return DeadLetterMoved(
        letter_id=row["letter"],
        workspace_id=row["workspace_id"],
        state=state,
        reason=row["reason"],
        error=_error(row),
        attempts=row["attempts"],
        at=tx.now,
        **news,
    )


def _noted(tx: Transaction, row: asyncpg.Record, letter: UUID) -> DeadLetterNoted:
    """The news with as much of the data as one event takes: all, where they came in one."""
    value = bytes(row["value"])
    event = DeadLetterNoted(
        letter_id=letter,
        workspace_id=row["workspace_id"],
        service=tx.service,
        subscription=row["subscription"],
        event=_failed(row),
        reason=row["reason"],
        error=_error(row),
        attempts=row["attempts"],
        headers=row["headers"],
        value=packed(value),
        size=len(value),
        waiting=row["waiting"],
        next_waiting=tuple(WaitingEvent.model_validate(each) for each in row["following"]),
        first_at=row["first_at"],
        at=tx.now,
    )
    kept = len(value)
    while len(event.model_dump_json().encode()) > EVENT_LIMIT:
        kept //= 2
        headers = {name[:_HEADER_LIMIT]: text[:_HEADER_LIMIT] for name, text in list(event.headers.items())[:20]}
        event = event.model_copy(update={"value": packed(value[:kept]), "headers": headers})
    return event


def _failed(row: asyncpg.Record) -> FailedEvent:
    return FailedEvent(
        topic=row["topic"],
        partition=row["partition"],
        offset=row["offset"],
        key=row["key"],
        id=row["event_id"],
        type=row["type"],
        sequence=row["sequence"],
        operation_id=row["operation_id"],
    )


def _error(row: asyncpg.Record) -> str | None:
    return None if row["error"] is None else row["error"][:_ERROR_LIMIT]
