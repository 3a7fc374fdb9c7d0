"""What modules said of a document goes with it."""

from collections.abc import Sequence
from uuid import UUID

from kgl_graph.db import documents, graph, requests
from kgl_servicekit.database.transaction import Transaction


async def request_ids(tx: Transaction, document_id: UUID) -> Sequence[UUID]:
    """All requests to modules about a document."""
    return await requests.about(tx, document_id)


async def is_gone(tx: Transaction, document_id: UUID) -> bool:
    """Whether the document is deleted, with everything that was derived from it."""
    row = await documents.lock(tx, document_id)
    return row is not None and row["deleted_at"] is not None


async def forget_document(tx: Transaction, document_id: UUID) -> None:
    """Take all of it back, and remove what is left without a source; no result is linked any more."""
    await documents.lock(tx, document_id)
    said = await graph.retract(tx, document_id, None)
    entities, relations = await graph.remove_unfounded(tx, said.entities, said.relations)
    results = await requests.forget_results(tx, document_id)
    removed = {"mentions": said.mentions, "entities": entities, "relations": relations, "results": results}
    await tx.report("graph.erase", "running", removed=removed)
