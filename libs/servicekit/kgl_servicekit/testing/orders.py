"""The orders in which events of several topics may come: each topic keeps its own, and there is none between them."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, TypeVar

from kgl_servicekit.database.transaction import Transaction

T = TypeVar("T")


def interleavings(first: Sequence[T], second: Sequence[T]) -> Iterator[list[T]]:
    """All ways to mix two sequences that keep the order within each."""
    for places in combinations(range(len(first) + len(second)), len(first)):
        firsts, seconds = iter(first), iter(second)
        yield [next(firsts) if n in places else next(seconds) for n in range(len(first) + len(second))]


async def dump(tx: Transaction, tables: Sequence[str], without: frozenset[str]) -> dict[str, list[dict[str, Any]]]:
    """All rows of these tables that the transaction sees, in one order; `without` leaves columns out.

    Of a time only whether it is set is kept: when something happened differs from run to run.
    """
    found = {}
    for table in tables:
        rows = await tx.fetch(f"select to_jsonb(t) as row from {table} t order by to_jsonb(t)::text")
        canonical = [
            {name: _canonical(name, value) for name, value in row["row"].items() if name not in without} for row in rows
        ]
        found[table] = sorted(canonical, key=repr)
    return found


def _canonical(name: str, value: Any) -> Any:
    return value is not None if name.endswith(("_at", "_until")) else value


async def empty(tx: Transaction, tables: Sequence[str]) -> None:
    """Remove what the transaction sees of these tables, and all jobs and events."""
    for table in (*tables, "job", "outbox_pending", "outbox_log"):
        await tx.execute(f"delete from {table}")


async def put_off(tx: Transaction, version: int) -> None:
    """Let the queued jobs about a document version wait for `call_back`, so that others are done before them."""
    await tx.execute(
        """update job set run_at = now() + interval '1 hour'
           where state = 'queued' and (data ->> 'version')::int = $1""",
        version,
    )


async def call_back(tx: Transaction, _: None) -> None:
    """Let every queued job be done now."""
    await tx.execute("update job set run_at = now() where state = 'queued'")


async def jobs_left(tx: Transaction, _: None) -> list[str]:
    """Jobs that did not get done, and why."""
    rows = await tx.fetch("select kind, state, error from job where state <> 'done'")
    return [f"{row['kind']} {row['state']}: {row['error']}" for row in rows]
