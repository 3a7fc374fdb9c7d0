"""Subscription to documents: what is about a deleted one goes, or loses its link."""

from kgl_content.use_cases.draft_item import unlink_document
from kgl_contracts.ingest import DocumentDeleted
from kgl_contracts.topics import DOCUMENTS
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import Event, Subscription, Verdict

content_documents = Subscription("content.documents", topic=DOCUMENTS)


@content_documents.on(DocumentDeleted, stage="content.unlink", ends_key=True)
async def on_document_deleted(tx: Transaction, event: Event[DocumentDeleted]) -> Verdict:
    return await unlink_document(tx, event.data)
