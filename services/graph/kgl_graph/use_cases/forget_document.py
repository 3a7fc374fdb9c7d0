"""What modules said of a document goes with it."""

from uuid import UUID

from kgl_graph.db import documents, graph
from kgl_servicekit.database.transaction import Transaction


async def forget_document(tx: Transaction, document_id: UUID) -> None:
    """Take all of it back, and remove what is left without a source; no result is linked any more."""
    await documents.lock(tx, document_id)
    entities, relations = await graph.retract(tx, document_id, None)
    await graph.remove_unfounded(tx, entities, relations)
