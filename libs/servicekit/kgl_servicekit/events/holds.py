"""Held events: retry queue, parking of the events behind them, and dead letters, in one table.

A key is held from its first failure until its queue is empty. Consumers read `held_key` FOR SHARE in their
transaction and park; whoever works the queue off takes it FOR UPDATE first, and removes it only in a
transaction that saw the queue empty under that lock. So order by key holds, and no other key waits.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import asyncpg

from kgl_servicekit.bus.port import StoredRecord
from kgl_servicekit.database.signals import HOLDS
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.delivery import Delivery, storable
from kgl_servicekit.events.letters import report_redrive, tell, tell_end
from kgl_servicekit.events.subscription import Subscription

HeldState = Literal["retrying", "waiting", "dead"]
Reason = Literal["failed", "rejected", "unreadable", "quarantined", "too_old", "gap", "behind", "unknown_version"]
REFUSED: frozenset[Reason] = frozenset({"failed", "rejected", "unreadable", "quarantined", "too_old"})

VERSION_PATIENCE = 60.0
"""Seconds until an event of a version that cannot be read yet is looked at again."""
VERSION_LIMIT = 6 * 3600.0
"""Seconds after which it is a dead letter: by then no upgrade is under way."""
NOT_YET = "This release does not know this version of the event; it waits for one that does."

_HOLD = """
insert into held_event (subscription, topic, incarnation, key, partition, "offset", sequence, epoch, event_id, type,
                        workspace_id, operation_id, state, reason, attempts, next_at, error, headers, value)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, now() + $16 * interval '1 second',
        $17, $18, $19)
"""

_NEXT = """
select k.subscription, k.key, extract(epoch from e.next_at - now())::float8 as wait
from held_key k
cross join lateral (
    select state, next_at from held_event e
    where e.subscription = k.subscription and e.topic = k.topic and e.key = k.key
    order by epoch, sequence, id limit 1
) e
where k.subscription = any($1::text[]) and e.state <> 'dead'
order by e.next_at limit $2
"""

_HEAD = """
select *, next_at <= clock_timestamp() as due from held_event where subscription = $1 and topic = $2 and key = $3
order by epoch, sequence, id limit 1
"""


@dataclass(frozen=True, slots=True)
class Hold:
    """One event to be held, and why."""

    delivery: Delivery
    state: HeldState
    reason: Reason
    attempts: int = 0
    delay: float = 0.0
    error: str | None = None

    @property
    def refused(self) -> bool:
        """Whether the event itself is the reason, and not one before it."""
        return self.reason in REFUSED


_SILENCE = 10.0  # an attempt in progress holds its key's lock, so this is no limit for it


def retry_delay(subscription: Subscription, attempts: int) -> float:
    """Seconds until the next try: exponential with full jitter."""
    return random.uniform(0, _longest_delay(subscription, attempts))  # noqa: S311


def silent_delay(subscription: Subscription, attempts: int) -> float:
    """Seconds until the next try after one of which nothing was heard: its worker has ended, perhaps by it."""
    return max(_SILENCE, _longest_delay(subscription, attempts))


def _longest_delay(subscription: Subscription, attempts: int) -> float:
    return float(min(subscription.backoff_limit, subscription.backoff * 2 ** max(0, attempts - 1)))


async def held_keys(tx: Transaction, subscription: Subscription, keys: Sequence[str]) -> set[str]:
    """The keys among these that are held, locked against being released before this transaction ends."""
    rows = await tx.fetch(
        "select key from held_key where subscription = $1 and topic = $2 and key = any($3::text[])"
        " order by key for share",
        subscription.name,
        subscription.topic.name,
        sorted(set(keys)),
    )
    return {row["key"] for row in rows}


async def hold(tx: Transaction, subscription: Subscription, holds: Sequence[Hold], incarnation: str) -> None:
    """Hold these events, of one life of their topic, and their keys."""
    name, topic = subscription.name, subscription.topic.name
    await tx.executemany(
        "insert into held_key (subscription, topic, key) values ($1, $2, $3) on conflict do nothing",
        [(name, topic, key) for key in sorted({held.delivery.key for held in holds})],
    )
    await tx.executemany(_HOLD, [_row(name, held, incarnation) for held in holds])
    await tell(tx, name, topic, [held.delivery.key for held in holds])
    tx.notify(HOLDS)


def _row(subscription: str, held: Hold, incarnation: str) -> tuple[object, ...]:
    record, envelope = held.delivery.record, held.delivery.envelope
    return (
        subscription,
        record.topic,
        incarnation,
        held.delivery.key,
        record.partition,
        record.offset,
        envelope.sequence if envelope else None,
        envelope.source_epoch if envelope else None,
        envelope.id if envelope else None,
        envelope.type if envelope else None,
        envelope.workspace_id if envelope else None,
        envelope.operation_id if envelope else None,
        held.state,
        held.reason,
        held.attempts,
        held.delay,
        None if held.error is None else storable(held.error),
        {storable(name): storable(value) for name, value in record.headers.items()},
        record.value,
    )


async def next_keys(tx: Transaction, subscriptions: Sequence[str], limit: int = 50) -> list[tuple[str, str, float]]:
    """The keys whose first held event is tried next: subscription, key, and seconds until then (0 or less is due)."""
    return [(row["subscription"], row["key"], row["wait"]) for row in await tx.fetch(_NEXT, subscriptions, limit)]


async def lock_head(tx: Transaction, subscription: Subscription, key: str) -> asyncpg.Record | None:
    """Take the key for redrive, read its first held event, and whether that is due; an empty queue frees the key."""
    place = (subscription.name, subscription.topic.name, key)
    locked = await tx.fetchval(
        "select true from held_key where subscription = $1 and topic = $2 and key = $3 for update", *place
    )
    if not locked:
        return None
    head = await tx.fetchrow(_HEAD, *place)
    if head is None:
        await tx.execute("delete from held_key where subscription = $1 and topic = $2 and key = $3", *place)
    return head


async def release(
    tx: Transaction, subscription: Subscription, head: asyncpg.Record, *, given_up: str | None = None
) -> None:
    """Take the first event of a key out of its queue: it was handled, or given up for a reason.

    An empty queue frees the key.
    """
    await tx.execute("delete from held_event where id = $1", head["id"])
    await tell_end(tx, head, "settled" if given_up is None else "discarded", given_up)
    if given_up is None:
        await report_redrive(tx, head, "done")
    following = await lock_head(tx, subscription, head["key"])
    if following is not None and following["reason"] == "gap":
        await wake_gap(tx, following["id"])


async def start_attempt(tx: Transaction, event_id: int, delay: float) -> int:
    """Count an attempt before it is made, so that one which ends the process is counted too; the answer is its number.

    If nothing more is heard of it, the next one is due after `delay` seconds.
    """
    attempts: int = await tx.fetchval(
        """update held_event set attempts = attempts + 1, next_at = now() + $2 * interval '1 second', last_at = now()
           where id = $1 returning attempts""",
        event_id,
        delay,
    )
    return attempts


async def undo_attempt(tx: Transaction, attempt: tuple[int, int]) -> None:
    """The attempt of this event and number met an outage: it does not count, and the next one is due at once.

    Nothing happens where it was not counted after all, or another one was.
    """
    sql = "update held_event set attempts = attempts - 1, next_at = now() where id = $1 and attempts = $2"
    await tx.execute(sql, *attempt)


async def postpone(tx: Transaction, event_id: int, state: HeldState, delay: float, error: str) -> datetime | None:
    """After a failed attempt: wait `delay` seconds, or give up; the answer is when it is tried again."""
    row = await tx.fetchrow(
        """update held_event set state = $2, next_at = now() + $3 * interval '1 second', error = $4, last_at = now()
           where id = $1 returning *""",
        event_id,
        state,
        delay,
        storable(error),
    )
    if row is None:
        return None
    again: datetime | None = None if state == "dead" else row["next_at"]
    if again is not None and row["letter"] is None:
        return again
    await tell(tx, row["subscription"], row["topic"], [row["key"]])
    if state == "dead":
        await report_redrive(tx, row, "failed", error="dead_again")
    else:
        await report_redrive(tx, row, "retrying", error="handler_failed", next_retry_at=again)
    return again


async def wake_gap(tx: Transaction, event_id: int) -> None:
    """What was missing before the first held event of a key has come: look at that one at once.

    Those behind it are looked at when it is released, one after the other: to wake all of them each time would take
    the square of their number.
    """
    sql = "update held_event set next_at = now() where id = $1 and reason = 'gap' and state = 'waiting'"
    await tx.execute(sql, event_id)
    tx.notify(HOLDS)


def stored_record(head: asyncpg.Record) -> StoredRecord:
    """The record as it came from the bus."""
    return StoredRecord(
        topic=head["topic"],
        key=head["key"],
        headers=head["headers"],
        value=head["value"],
        partition=head["partition"],
        offset=head["offset"],
    )
