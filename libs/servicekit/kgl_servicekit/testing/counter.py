"""The smallest service there is, for the tests of the core: counters in workspaces."""

from pathlib import Path
from uuid import UUID

from sqlmodel import Field, SQLModel

from kgl_contracts.ingest import DocumentDeleted
from kgl_servicekit.database.core_schema import service_registry
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import DONE, Event, Verdict


class Base(SQLModel, registry=service_registry()):
    """The tables of this service."""


class CounterRow(Base, table=True):
    """How often something happened to a document, and the sequences that it happened with."""

    __tablename__ = "counter"

    workspace_id: UUID = Field(primary_key=True)
    name: str = Field(primary_key=True)
    value: int = 0


METADATA = Base.metadata
MIGRATIONS = Path(__file__).parent / "counter_migrations"


async def count(tx: Transaction, name: str) -> int:
    """Add one to a counter of the transaction's workspace."""
    value: int = await tx.fetchval(
        """insert into counter (workspace_id, name, value) values ($1, $2, 1)
           on conflict (workspace_id, name) do update set value = counter.value + 1 returning value""",
        tx.workspace,
        name,
    )
    return value


async def count_and_tell(tx: Transaction, document_id: UUID) -> int:
    """Count, and emit an event whose version is the count."""
    value = await count(tx, str(document_id))
    await tx.emit(DocumentDeleted(document_id=document_id, version=value))
    return value


async def on_deleted(tx: Transaction, event: Event[DocumentDeleted]) -> Verdict:
    """Count what was consumed, by document."""
    await count(tx, f"consumed {event.data.document_id}")
    return DONE
