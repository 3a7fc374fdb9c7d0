"""A consumer takes its next events, handles them, and says how far it is."""

from dataclasses import dataclass

import asyncpg

from kgl_publish.db import consumers, feeds
from kgl_publish.domain.consumers import (
    Consumer,
    ConsumerLeased,
    ConsumerNotFound,
    EventsLost,
    LeaseOver,
    PositionNotPulled,
    Pulled,
    Start,
)
from kgl_servicekit.database.transaction import Transaction

_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Pull:
    """Up to `most` events for whoever asks; for `lease_seconds` they are nobody else's."""

    name: str
    most: int
    lease_seconds: float


@dataclass(frozen=True, slots=True)
class Commit:
    """All up to `position` is handled; the rest of the pull is kept for `lease_seconds`, or given up."""

    name: str
    token: int
    position: int
    lease_seconds: float
    release: bool


async def pull_events(tx: Transaction, command: Pull) -> Pulled:
    """Take the next events. Raises ConsumerNotFound, ConsumerLeased, EventsLost."""
    await _free(tx, command.name)
    events = await consumers.unread(tx, command.name, command.most, _BYTES)
    if not events:
        return Pulled(events=(), token=None, leased_until=None)
    lease = await consumers.lease(tx, command.name, events[-1].position, command.lease_seconds)
    return Pulled(events=tuple(events), token=lease["token"], leased_until=lease["leased_until"])


async def anything_to_pull(tx: Transaction, command: Pull) -> bool:
    """Whether a pull would give events. If not, the position moves to the end, so that nothing is looked at twice.

    Raises ConsumerNotFound, EventsLost.
    """
    try:
        row = await _free(tx, command.name)
    except ConsumerLeased:
        return False
    end = await feeds.last_live(tx)  # before looking: what is committed in between has a higher number
    if await consumers.unread(tx, command.name, 1, _BYTES):
        return True
    if end > row["position"]:  # else a waiting consumer would write a row each time that anybody's event wakes it
        await consumers.move(tx, command.name, end, None)
    return False


async def commit_events(tx: Transaction, command: Commit) -> Consumer:
    """Move the position, never back. Raises ConsumerNotFound, LeaseOver, PositionNotPulled."""
    row = await _locked(tx, command.name)
    if row["token"] != command.token:
        raise LeaseOver
    if command.position > row["pulled_to"]:
        raise PositionNotPulled(pulled_to=row["pulled_to"])
    position = max(command.position, row["position"])
    over = command.release or position >= row["pulled_to"]
    await consumers.move(tx, command.name, position, None if over else command.lease_seconds)
    if over:
        tx.notify(feeds.LIVE)  # who waits for the lease may pull now
    return await _shown(tx, command.name)


async def seek_events(tx: Transaction, command: tuple[str, Start]) -> Consumer:
    """Go to the earliest event that is left, or behind the latest one. Raises ConsumerNotFound."""
    name, to = command
    await _locked(tx, name)
    await consumers.seek(tx, name, await position_of(tx, to))
    tx.notify(feeds.LIVE)
    return await _shown(tx, name)


async def position_of(tx: Transaction, start: Start) -> int:
    """The position before the earliest event that is left, or at the latest one."""
    return await feeds.last_live(tx) if start == "latest" else 0


async def _free(tx: Transaction, name: str) -> asyncpg.Record:
    row = await _locked(tx, name)
    if row["lost"]:
        raise EventsLost(lost=row["lost"])
    if row["leased"]:
        raise ConsumerLeased(leased_until=row["leased_until"].isoformat())
    return row


async def _locked(tx: Transaction, name: str) -> asyncpg.Record:
    row = await consumers.lock(tx, name)
    if row is None:
        raise ConsumerNotFound
    return row


async def _shown(tx: Transaction, name: str) -> Consumer:
    found = await consumers.show(tx, name)
    assert found is not None
    return found
