"""Job: the objects of a deleted document go."""

from dataclasses import dataclass
from uuid import UUID

from kgl_ingest.db import documents
from kgl_ingest.domain.documents import file_key
from kgl_ingest.jobs.declared import EraseDocument, jobs
from kgl_ingest.jobs.outside import Outside
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.jobs.runner import Job


@jobs.handles(EraseDocument, timeout=120, attempts=8)
async def erase_document(job: Job[EraseDocument], outside: Outside) -> None:
    """Remove chunks and texts of all versions, and files that no other document of the workspace has."""
    doomed = await job.run(_doomed, job.data.document_id)
    for key in doomed.objects:
        await outside.objects.delete(key)
    for sha256, generation in doomed.blobs:
        await outside.objects.delete(file_key(job.workspace_id, sha256, generation))
    await job.finish(_forget, doomed)


@dataclass(frozen=True, slots=True)
class _Doomed:
    """What goes: objects by key, and blobs by content and generation, marked so that no upload uses them."""

    document_id: UUID
    objects: list[str]
    blobs: list[tuple[str, int]]


async def _doomed(tx: Transaction, document: UUID) -> _Doomed:
    contents = await documents.contents_of(tx, document)
    for sha256 in contents:
        await documents.lock_content(tx, sha256)
    blobs = await documents.doom_unshared(tx, contents)
    return _Doomed(document, await documents.objects_of(tx, document), blobs)


async def _forget(tx: Transaction, doomed: _Doomed) -> None:
    await documents.forget_objects(tx, doomed.document_id, doomed.blobs)
