"""The search index anew: chunks, their vectors, and which version of a document can be found.

As in the live path a document is searchable in its newest parsed version; here that is remembered by
`indexed_document_next`, since nothing but the shadow tables may be written or believed.

Vectors that are kept outside of the database are stored again in their place, before the swap: those of a version are
always the same, and what search does not find among the chunks it leaves out. Let V be the version of a document that
the swapped tables have. Its vectors were stored when its event was read. They would have been left out had a newer
version been parsed by then; but the event of that one lies before the swap's cut, and V would not be the newest.
"""

from typing import Any
from uuid import UUID

from kgl_contracts.ingest import DocumentDeleted, DocumentParsed, DocumentSnapshotted, DocumentsSnapshotEnded
from kgl_contracts.topics import REPLAY_GRAPH_DOCUMENTS
from kgl_graph.consumers.documents import graph_documents
from kgl_graph.db.search_index import NEXT, TABLES
from kgl_graph.jobs.outside import Outside
from kgl_graph.stores.chunk_reader import read_searchable
from kgl_servicekit.database.statements import Statements
from kgl_servicekit.events.rebuild import Rebuild, Write
from kgl_servicekit.events.subscription import Event
from kgl_servicekit.places import chunks_folder

search = Rebuild(
    "search",
    subscription=graph_documents,
    replay=REPLAY_GRAPH_DOCUMENTS,
    ended=DocumentsSnapshotEnded,
    tables=TABLES,
)


@search.on(DocumentSnapshotted)
async def on_document_snapshotted(outside: Outside, event: Event[DocumentSnapshotted]) -> Write:
    data, workspace = event.data, _workspace(event)
    if data.parsed_version is None or data.chunks_object is None or data.sha256 is None:
        return await _without(outside, workspace, data.document_id)
    return await _with(outside, workspace, data.document_id, data.parsed_version, data.chunks_object, data.sha256)


@search.on(DocumentParsed)
async def on_document_parsed(outside: Outside, event: Event[DocumentParsed]) -> Write:
    data = event.data
    return await _with(outside, _workspace(event), data.document_id, data.version, data.chunks_object, data.sha256)


@search.on(DocumentDeleted)
async def on_document_deleted(outside: Outside, event: Event[DocumentDeleted]) -> Write:
    return await _without(outside, _workspace(event), event.data.document_id)


def _workspace(event: Event[Any]) -> UUID:
    workspace = event.envelope.workspace_id
    assert workspace is not None  # an event about a document is in a workspace
    return workspace


async def _with(
    outside: Outside, workspace: UUID, document: UUID, version: int, chunks_object: str, sha256: str
) -> Write:
    folder = chunks_folder(workspace, document, version)
    found = await read_searchable(outside.objects, outside.embedder, folder, chunks_object, sha256)
    write_vectors = await outside.vectors.rebuild(workspace, document, version, found.vectors)

    async def write(tx: Statements) -> None:
        known = await NEXT.version(tx, document)
        if known is not None and known > version:
            return
        await NEXT.replace(tx, document, version, found.chunks)
        await write_vectors(tx)

    return write


async def _without(outside: Outside, workspace: UUID, document: UUID) -> Write:
    write_vectors = await outside.vectors.rebuild(workspace, document, 0, ())

    async def write(tx: Statements) -> None:
        await NEXT.remove(tx, document)
        await write_vectors(tx)

    return write
