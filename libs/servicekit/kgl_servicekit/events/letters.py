"""What is told of dead letters: ingest keeps one list of those of all services, made from these events.

The news of a letter leave in the transaction that changes its held event, in order, under an id that its record
always gives. Letters about letters are not told, or a fault in the list would tell of itself for ever; metrics
count them like all others.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import asyncpg
import orjson
from loguru import logger

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

Text = TypeVar("Text", str, str | None)

MOST_WAITING = 1000  # counted behind a letter
_SHOWN = 20

# Bytes of JSON: together with keys and names they leave an event half of its limit for the data.
_ERROR_LIMIT = 4000
_WORD_LIMIT = 300  # a type, the name or the text of one header of many
_HEADERS_LIMIT = 16_000
_MOST_HEADERS = 20

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
    """Tell of the letters of these keys what was not told yet: that they are dead, how they stand, what waits.

    What no event can say is logged, and tried again later: an event is held in any case.
    """
    for row in await tx.fetch(_NEWS, subscription, topic, sorted(set(keys))):
        told = f"{row['state']} {row['attempts']} {row['waiting']}"
        if told == row["told"]:
            continue
        letter = row["letter"] or _letter_id(row)
        try:
            await _emit(tx, row, _noted(tx, row, letter) if row["letter"] is None else _stands(tx, row))
        except ValueError as error:
            logger.bind(subscription=subscription, letter=str(letter)).opt(exception=error).error("letter.not_told")
        else:
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
    """Tell what is to be handled instead of the data that came; the error is known, and the event may be full."""
    if row["letter"] is not None:
        await _emit(tx, row, _moved(tx, row, row["state"], corrected=packed(value), error=None))


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


def _stands(tx: Transaction, row: asyncpg.Record) -> DeadLetterMoved:
    return _moved(tx, row, row["state"], waiting=row["waiting"], next_waiting=_following(row))


def _moved(tx: Transaction, row: asyncpg.Record, state: LetterState, **news: object) -> DeadLetterMoved:
    known = {"reason": row["reason"], "error": _error(row), "attempts": row["attempts"], "at": tx.now}
    return DeadLetterMoved(letter_id=row["letter"], workspace_id=row["workspace_id"], state=state, **{**known, **news})


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
        headers=_headers(row["headers"]),
        value="",
        size=len(value),
        waiting=row["waiting"],
        next_waiting=_following(row),
        first_at=row["first_at"],
        at=tx.now,
    )
    room = EVENT_LIMIT - len(event.model_dump_json().encode())
    kept = len(value)
    while len(shown := packed(value[:kept])) > room and kept:
        kept //= 2
    return event.model_copy(update={"value": shown})


def _failed(row: asyncpg.Record) -> FailedEvent:
    return FailedEvent(
        topic=row["topic"],
        partition=row["partition"],
        offset=row["offset"],
        key=row["key"],
        id=row["event_id"],
        type=_clipped(row["type"], _WORD_LIMIT),
        sequence=row["sequence"],
        operation_id=row["operation_id"],
    )


def _following(row: asyncpg.Record) -> tuple[WaitingEvent, ...]:
    waiting = [{**each, "type": _clipped(each["type"], _WORD_LIMIT)} for each in row["following"]]
    return tuple(WaitingEvent.model_validate(each) for each in waiting)


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    """All of them, or where they are too many the beginnings of some."""
    if len(orjson.dumps(headers)) <= _HEADERS_LIMIT:
        return dict(headers)
    some = list(headers.items())[:_MOST_HEADERS]
    return {_clipped(name, _WORD_LIMIT): _clipped(text, _WORD_LIMIT) for name, text in some}


def _error(row: asyncpg.Record) -> str | None:
    error: str | None = row["error"]
    return _clipped(error, _ERROR_LIMIT)


def _clipped(text: Text, limit: int) -> Text:
    """The beginning of a text that is so many bytes of JSON, in which one character may be six."""
    if text is None:
        return None
    kept = text[:limit]
    while (size := len(orjson.dumps(kept)) - 2) > limit:
        kept = kept[: len(kept) * limit // size]
    return kept
