"""Delete a document: gone for readers at once, for everything derived from it in the background."""

from uuid import UUID

from kgl_contracts.ingest import DocumentDeleted
from kgl_ingest.db import documents
from kgl_ingest.domain.documents import DELETE_PLAN, DocumentDeletedAlready, DocumentNotFound, subject_of
from kgl_ingest.jobs.declared import EraseDocument
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.operations import Receipt


async def delete_document(tx: Transaction, document_id: UUID) -> Receipt:
    """Mark it deleted, and have its objects and everything derived from it removed.

    Raises: DocumentNotFound (404), DocumentDeletedAlready (410).
    """
    row = await documents.lock(tx, document_id)
    if row is None:
        raise DocumentNotFound
    if row["deleted_at"] is not None:
        raise DocumentDeletedAlready
    await documents.mark_deleted(tx, document_id)
    receipt = await tx.start_operation("ingest.delete", subject_of(document_id), DELETE_PLAN)
    await tx.start_job(EraseDocument(document_id=document_id), operation=receipt.id)
    await tx.emit(DocumentDeleted(document_id=document_id, version=row["version"]), operation=receipt.id)
    await tx.audit("document.delete", f"document:{document_id}")
    return receipt
