"""Subscription to documents: they are indexed, read by modules, cancelled, and removed."""

from kgl_contracts.ingest import DocumentAccepted, DocumentCancelled, DocumentDeleted, DocumentParsed
from kgl_contracts.topics import DOCUMENTS
from kgl_graph.use_cases.hear_document import hear_accepted, hear_cancelled, hear_deleted, hear_parsed
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import Event, Subscription, Verdict

graph_documents = Subscription("graph.documents", topic=DOCUMENTS)


@graph_documents.on(DocumentAccepted)
async def on_document_accepted(tx: Transaction, event: Event[DocumentAccepted]) -> Verdict:
    return await hear_accepted(tx, event.data)


@graph_documents.on(DocumentParsed, stage="graph.index")
async def on_document_parsed(tx: Transaction, event: Event[DocumentParsed]) -> Verdict:
    return await hear_parsed(tx, event.data)


@graph_documents.on(DocumentCancelled)
async def on_document_cancelled(tx: Transaction, event: Event[DocumentCancelled]) -> Verdict:
    return await hear_cancelled(tx, event.data)


@graph_documents.on(DocumentDeleted, stage="graph.erase", ends_key=True)
async def on_document_deleted(tx: Transaction, event: Event[DocumentDeleted]) -> Verdict:
    return await hear_deleted(tx, event.data)
