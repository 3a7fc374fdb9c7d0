"""Interleavings of transactions in tests: who waits for whom, and whether a transaction had to be repeated."""

from prometheus_client import REGISTRY

from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.testing.polling import eventually


async def until_waiting(database: Database, transactions: int = 1) -> None:
    """Until so many transactions of the database wait for a lock."""

    async def waiting(tx: Transaction, _: None) -> bool:
        found: bool = await tx.fetchval(
            """select count(*) >= $1 from pg_stat_activity
               where datname = current_database() and wait_event_type = 'Lock'""",
            transactions,
        )
        return found

    await eventually(lambda: database.run((), waiting, None), what=f"{transactions} transactions wait for a lock")


def repeats(database: Database) -> float:
    """How many transactions of the service were repeated so far in this process, as after a deadlock."""
    return REGISTRY.get_sample_value("kgl_transaction_retries_total", {"service": database.service}) or 0.0
