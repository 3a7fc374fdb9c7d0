"""Read the receipts of all services."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kgl_ingest.db import receipts
from kgl_ingest.domain.receipts import KnownReceipt, ReceiptFilter
from kgl_servicekit.database.transaction import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class ListReceipts:
    """Which receipts; `before` is the place of the last one of the page before."""

    chosen: ReceiptFilter
    limit: int
    before: tuple[datetime, UUID] | None


async def list_receipts(tx: Transaction, asked: ListReceipts) -> Sequence[KnownReceipt]:
    """Receipts of the transaction's workspaces, newest first."""
    return await receipts.listed(tx, asked.chosen, asked.limit, asked.before)


async def read_receipt(tx: Transaction, operation_id: UUID) -> KnownReceipt | None:
    """One receipt, or None when it is not here (yet)."""
    return await receipts.find(tx, operation_id)


async def workspaces_with_operations(tx: Transaction, _: None) -> list[UUID]:
    """The workspaces that an operator has to name to see all receipts."""
    return await receipts.workspaces(tx)
