"""Statements of the list of dead letters. Row-level security shows those of the transaction's workspaces."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from kgl_contracts.dead_letters import Act, DeadLetterMoved, DeadLetterNoted, unpacked
from kgl_contracts.topics import BY_NAME
from kgl_ingest.domain.dead_letters import (
    Grouping,
    Letter,
    LetterCount,
    LetterFilter,
    LetterSummary,
    decided_by_operators,
    json_or_none,
    raw_text,
)
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.identity.permissions import INSTANCE_WORKSPACE

_NOTE = """
insert into dead_letter (workspace_id, id, service, subscription, topic, partition, "offset", key, event_id, type,
                         sequence, operation_id, state, reason, error, attempts, headers, value, size, waiting,
                         next_waiting, first_at, dead_at, moved_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'dead',
        $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $22)
on conflict (workspace_id, id) do update
set state = 'dead', reason = excluded.reason, error = excluded.error, attempts = excluded.attempts,
    headers = excluded.headers, value = excluded.value, size = excluded.size, corrected = null,
    waiting = excluded.waiting, next_waiting = excluded.next_waiting, note = null, first_at = excluded.first_at,
    dead_at = excluded.dead_at, moved_at = excluded.moved_at, decided_at = null
"""

_MOVE = """
update dead_letter
set state = $3::text, reason = $4, error = case when $9::bytea is null then $5 else error end, attempts = $6,
    waiting = coalesce($7, waiting), decided_at = case when $3::text = 'dead' then decided_at end,
    next_waiting = case when $7::int is null then next_waiting else $8 end,
    corrected = case when $3::text in ('settled', 'discarded') then null else coalesce($9, corrected) end,
    value = case when $3::text in ('settled', 'discarded') then null else value end,
    note = coalesce($10, note), dead_at = case when $3::text = 'dead' and state <> 'dead' then $11 else dead_at end,
    moved_at = $11
where workspace_id = $1 and id = $2
"""

# not the data, headers and what waits: these are large, and no summary shows them
_SUMMARY = """
workspace_id, id, service, subscription, topic, type, key, event_id, operation_id, state, reason, error, attempts,
waiting, corrected is not null as is_corrected, decision, decision_operation, first_at, dead_at, moved_at
"""

# a decision was sent, and no news have come of it
_UNDER_WAY = "coalesce(decided_at >= now() - interval '1 hour', false)"

# what modules wrote may hold text of documents: of others neither shown nor searched
_READABLE = "case when topic = any($15::text[]) or workspace_id = $14 then error end"

_CHOSEN = f"""
workspace_id = coalesce($1, workspace_id)
  and (case when $2::text is null then state in ('dead', 'retrying') else state = $2 end)
  and ($3::text is null or service = $3) and ($4::text is null or subscription = $4)
  and ($5::text is null or topic = $5) and ($6::text is null or type = $6) and ($7::text is null or reason = $7)
  and ($8::text is null or position(lower($8) in lower({_READABLE})) > 0) and ($9::text is null or key = $9)
  and ($10::uuid is null or operation_id = $10)
  and ($11::timestamptz is null or dead_at >= $11) and ($12::timestamptz is null or dead_at < $12)
  and ($13::uuid[] is null or id = any($13))
"""

# what differs in each event of one fault, such as ids and numbers, does not make another error of it
_GROUPS: dict[Grouping, str] = {
    "service": "service",
    "subscription": "subscription",
    "topic": "topic",
    "type": "type",
    "reason": "reason",
    "error": "left(regexp_replace("
    + _READABLE
    + ", '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9]+', '#', 'g'), 200)",
    "workspace_id": "workspace_id",
    "day": "date_trunc('day', dead_at, 'UTC')",
}
_MOST_GROUPS = 500


def _workspace(workspace: UUID | None) -> UUID:
    return workspace or INSTANCE_WORKSPACE


async def note(tx: Transaction, letter: DeadLetterNoted) -> None:
    """List a letter, or list it again: its event has failed once more."""
    event = letter.event
    await tx.execute(
        _NOTE,
        _workspace(letter.workspace_id),
        letter.letter_id,
        letter.service,
        letter.subscription,
        event.topic,
        event.partition,
        event.offset,
        event.key,
        event.id,
        event.type,
        event.sequence,
        event.operation_id,
        letter.reason,
        letter.error,
        letter.attempts,
        letter.headers,
        unpacked(letter.value),
        letter.size,
        letter.waiting,
        [each.model_dump(mode="json") for each in letter.next_waiting],
        letter.first_at,
        letter.at,
    )


async def move(tx: Transaction, moved: DeadLetterMoved) -> bool:
    """Show how a letter stands now; False for one that is not listed."""
    done = await tx.execute(
        _MOVE,
        _workspace(moved.workspace_id),
        moved.letter_id,
        moved.state,
        moved.reason,
        moved.error,
        moved.attempts,
        moved.waiting,
        [each.model_dump(mode="json") for each in moved.next_waiting],
        None if moved.corrected is None else unpacked(moved.corrected),
        moved.note,
        moved.at,
    )
    return done != "UPDATE 0"


async def workspaces(tx: Transaction) -> list[UUID]:
    """The workspaces that have letters, whoever asks."""
    found: list[UUID] = await tx.fetchval("select kgl_dead_letter_workspaces()")
    return found


async def listed(
    tx: Transaction, chosen: LetterFilter, own: UUID | None, limit: int, before: tuple[datetime, UUID] | None
) -> list[LetterSummary]:
    """Letters, those that died last first."""
    rows = await tx.fetch(
        f"""select {_SUMMARY} from dead_letter
            where {_CHOSEN} and ($16::timestamptz is null or (dead_at, id) < ($16, $17::uuid))
            order by dead_at desc, id desc limit $18""",
        *_chosen(chosen, own),
        *(before or (None, None)),
        limit,
    )
    return [LetterSummary.model_validate(_without_instance(dict(row))) for row in rows]


async def counted(tx: Transaction, chosen: LetterFilter, own: UUID | None, by: Sequence[Grouping]) -> list[LetterCount]:
    """How many letters there are of each group, the largest first."""
    groups = dict.fromkeys(by)
    columns = "".join(f", {_GROUPS[each]} as {each}" for each in groups)
    places = ", ".join(str(place) for place in range(4, 4 + len(groups)))
    rows = await tx.fetch(
        f"""select count(*), min(dead_at) as oldest, max(dead_at) as newest{columns}
            from dead_letter where {_CHOSEN} {f"group by {places}" if groups else "having count(*) > 0"}
            order by 1 desc, 2 limit {_MOST_GROUPS}""",
        *_chosen(chosen, own),
    )
    return [LetterCount.model_validate(_without_instance(dict(row))) for row in rows]


async def lock(tx: Transaction, letter_id: UUID) -> bool:
    """Keep others from deciding about a letter meanwhile; the answer is whether a decision is on its way already.

    One of which no news came for an hour is on its way no more.
    """
    row = await tx.fetchrow(f"select {_UNDER_WAY} as decided from dead_letter where id = $1 for update", letter_id)
    return row is not None and row["decided"]


async def find(tx: Transaction, letter_id: UUID) -> Letter | None:
    """One letter with its data."""
    row = await tx.fetchrow("select * from dead_letter where id = $1", letter_id)
    if row is None:
        return None
    value, corrected = row["value"], row["corrected"]
    shown = _without_instance(dict(row)) | {
        "is_corrected": corrected is not None,
        "payload": json_or_none(value),
        "raw": raw_text(value),
        "corrected": json_or_none(corrected),
        "complete": value is None or len(value) == row["size"],
    }
    return Letter.model_validate(shown)


async def dead(
    tx: Transaction, chosen: LetterFilter, own: UUID | None, limit: int, *, operator: bool
) -> list[LetterSummary]:
    """The dead ones among the chosen, in the order in which they died, locked until the decision is noted.

    Left out is what was decided about already, unless an hour went by without news, and what operators decide.
    """
    rows = await tx.fetch(
        f"""select {_SUMMARY} from dead_letter
            where {_CHOSEN} and state = 'dead' and not {_UNDER_WAY}
              and topic <> all($16::text[])
            order by dead_at, id limit $17 for update""",
        *_chosen(chosen, own),
        [] if operator else [topic for topic in BY_NAME if decided_by_operators(topic)],
        limit,
    )
    return [LetterSummary.model_validate(_without_instance(dict(row))) for row in rows]


async def remember_decision(tx: Transaction, letters: Sequence[UUID], act: Act, operation: UUID) -> None:
    """Show at the letters what was decided; a correction is not waited for, since a decision is still to follow."""
    await tx.execute(
        """update dead_letter
           set decision = $2::text, decision_operation = $3,
               decided_at = case when $2::text <> 'correct' then clock_timestamp() else decided_at end
           where id = any($1::uuid[])""",
        sorted(letters),
        act,
        operation,
    )


async def trim(tx: Transaction, days: int) -> None:
    """Forget those that were settled or given up so many days ago."""
    await tx.fetchval("select kgl_trim_dead_letters($1)", days)


def _chosen(chosen: LetterFilter, own: UUID | None) -> tuple[Any, ...]:
    return (
        chosen.workspace_id,
        chosen.state,
        chosen.service,
        chosen.subscription,
        chosen.topic,
        chosen.type,
        chosen.reason,
        chosen.error,
        chosen.key,
        chosen.operation_id,
        chosen.dead_at_gte,
        chosen.dead_at_lt,
        None if chosen.ids is None else list(chosen.ids),
        own,
        list(BY_NAME),
    )


def _without_instance(shown: dict[str, Any]) -> dict[str, Any]:
    if shown.get("workspace_id") == INSTANCE_WORKSPACE:
        shown["workspace_id"] = None
    return shown
