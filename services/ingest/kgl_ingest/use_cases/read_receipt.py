"""Read the receipts of all services."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kgl_ingest.db import operations
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.operations import Receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class ListReceipts:
    """Which receipts; `before` is the place of the last one of the page before."""

    limit: int
    before: tuple[datetime, UUID] | None
    state: str | None
    kind: str | None
    subject: str | None


async def list_receipts(tx: Transaction, asked: ListReceipts) -> Sequence[Receipt]:
    """Receipts, newest first."""
    return await operations.listed(
        tx, limit=asked.limit, before=asked.before, state=asked.state, kind=asked.kind, subject=asked.subject
    )


async def read_receipt(tx: Transaction, operation_id: UUID) -> Receipt | None:
    """One receipt, or None when it is not here (yet)."""
    return await operations.find(tx, operation_id)
