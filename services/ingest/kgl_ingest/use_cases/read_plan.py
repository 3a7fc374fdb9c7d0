"""Read the plan of a document version, as it was frozen when the version was accepted."""

from uuid import UUID

from kgl_contracts.operations import PlannedStage
from kgl_ingest.db import documents
from kgl_ingest.domain.documents import ingest_plan, planned_modules
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.identity import modules


async def read_plan(tx: Transaction, document_id: UUID, version: int) -> list[PlannedStage]:
    """All its stages, whichever modules are enabled now."""
    kept = await documents.planned_modules(tx, document_id, version)
    return ingest_plan(planned_modules(await modules(tx, tx.workspace)) if kept is None else kept)
