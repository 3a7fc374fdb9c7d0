"""Make a version searchable, and let modules work on it."""

from dataclasses import dataclass
from uuid import UUID

from kgl_contracts.graph import DocumentIndexed
from kgl_graph.db import documents, requests
from kgl_graph.db.search_index import PRESENT
from kgl_graph.domain.chunks import Chunk
from kgl_graph.jobs.declared import ForgetVectors
from kgl_servicekit.database.transaction import Transaction

REQUESTS_READY = "kgl_requests"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordIndexed:
    """A version with its chunks, whose vectors are stored already."""

    document_id: UUID
    version: int
    chunks: tuple[Chunk, ...]


async def is_searchable(tx: Transaction, command: RecordIndexed) -> bool:
    """Whether this is still the newest parsed version of a document that is not gone.

    A newer one that is only accepted changes nothing yet: should it never be parsed, this one stays searchable.
    """
    return await documents.is_current(tx, command.document_id, command.version)


async def record_indexed(tx: Transaction, command: RecordIndexed) -> None:
    """Replace the document's chunks by these; what is not current any more changes nothing."""
    current = await is_searchable(tx, command)
    # vectors of this version may be stored although it is not current: they are forgotten like older ones
    below = command.version if current else command.version + 1
    if below > 1:
        forget = ForgetVectors(document_id=command.document_id, below_version=below)
        await tx.start_job(forget, key=f"{command.document_id}/{below}/{tx.cause.id}")
    if not current:
        return
    await PRESENT.replace(tx, command.document_id, command.version, command.chunks)
    await requests.make_ready(tx, command.document_id, command.version)
    tx.notify(REQUESTS_READY)
    await tx.emit(
        DocumentIndexed(document_id=command.document_id, version=command.version, chunk_count=len(command.chunks))
    )
