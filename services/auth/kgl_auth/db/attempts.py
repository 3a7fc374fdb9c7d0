"""Statements about how often something was tried: counters that survive restarts and are shared by processes."""

import hashlib
from datetime import datetime, timedelta

from kgl_servicekit.database.transaction import Transaction

WINDOW = timedelta(seconds=60)

_COUNT = """
insert into attempt_counter as c (scope, started_at, attempts) values ($1, $2, 1)
on conflict (scope) do update set
    attempts = case when c.started_at <= $3 then 1 else c.attempts + 1 end,
    started_at = case when c.started_at <= $3 then excluded.started_at else c.started_at end
returning attempts, started_at
"""


def _scope(parts: tuple[str, ...]) -> bytes:
    return hashlib.sha256("\x1f".join(parts).encode()).digest()


async def count_attempt(tx: Transaction, *scope: str, limit: int) -> float | None:
    """Count one attempt; the answer is None, or the seconds to wait when there were more than `limit` in a minute."""
    row = await tx.fetchrow(_COUNT, _scope(scope), tx.now, tx.now - WINDOW)
    assert row is not None
    if row["attempts"] <= limit:
        return None
    started_at: datetime = row["started_at"]
    return max(1.0, (started_at + WINDOW - tx.now).total_seconds())


async def forget_attempts(tx: Transaction, *scope: str) -> None:
    """Begin anew, after a success."""
    await tx.execute("delete from attempt_counter where scope = $1", _scope(scope))
