"""The search index anew: chunks, their vectors, and which version of a document can be found.

As in the live path a document is searchable in its newest parsed version; here that is remembered by
`indexed_document_next`, since nothing but the shadow tables may be written or believed.
"""

from uuid import UUID

from kgl_contracts.ingest import DocumentDeleted, DocumentParsed, DocumentSnapshotted, DocumentsSnapshotEnded
from kgl_contracts.topics import REPLAY_GRAPH_DOCUMENTS
from kgl_graph.consumers.documents import graph_documents
from kgl_graph.db.search_index import SearchIndex
from kgl_graph.jobs.declared import EVERY_VERSION
from kgl_graph.jobs.outside import Outside
from kgl_graph.stores.chunk_reader import read_searchable
from kgl_servicekit.database.statements import Statements
from kgl_servicekit.events.rebuild import Rebuild, Write
from kgl_servicekit.events.subscription import Event

search = Rebuild("search", subscription=graph_documents, replay=REPLAY_GRAPH_DOCUMENTS, ended=DocumentsSnapshotEnded)
_NEXT = SearchIndex("_next")


@search.on(DocumentSnapshotted)
async def on_document_snapshotted(outside: Outside, event: Event[DocumentSnapshotted]) -> Write:
    data = event.data
    if data.parsed_version is None or data.chunks_object is None or data.sha256 is None:
        return _without(data.document_id)
    return await _with(outside, data.document_id, data.parsed_version, data.chunks_object, data.sha256)


@search.on(DocumentParsed)
async def on_document_parsed(outside: Outside, event: Event[DocumentParsed]) -> Write:
    data = event.data
    return await _with(outside, data.document_id, data.version, data.chunks_object, data.sha256)


@search.on(DocumentDeleted)
async def on_document_deleted(_: Outside, event: Event[DocumentDeleted]) -> Write:
    return _without(event.data.document_id)


async def _with(outside: Outside, document: UUID, version: int, chunks_object: str, sha256: str) -> Write:
    found = await read_searchable(outside.objects, outside.embedder, chunks_object, sha256)

    async def write(tx: Statements) -> None:
        known = await _NEXT.version(tx, document)
        if known is not None and known > version:
            return
        await _NEXT.replace(tx, document, version, found.chunks)
        await _NEXT.remove_vectors(tx, document, EVERY_VERSION)
        await _NEXT.put_vectors(tx, document, version, found.vectors)

    return write


def _without(document: UUID) -> Write:
    async def write(tx: Statements) -> None:
        await _NEXT.remove(tx, document)
        await _NEXT.remove_vectors(tx, document, EVERY_VERSION)

    return write
