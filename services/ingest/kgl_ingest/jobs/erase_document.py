"""Job: the objects of a deleted document go."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from kgl_ingest.db import blobs, documents
from kgl_ingest.domain.documents import KEPT_DAYS
from kgl_ingest.jobs.declared import EraseDocument, jobs
from kgl_ingest.jobs.outside import Outside
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.jobs.runner import Job


@jobs.handles(EraseDocument, timeout=120, attempts=8)
async def erase_document(job: Job[EraseDocument], outside: Outside) -> None:
    """Remove chunks and texts of all versions, and files that no other document of the workspace has."""
    doomed = await job.run(_doomed, job.data.document_id)
    for key in (*doomed.objects, *doomed.files):
        await outside.objects.delete(key)
    await job.finish(_forget, doomed)


@dataclass(frozen=True, slots=True)
class _Doomed:
    """The keys of what goes; files are marked, so that no upload uses them."""

    document_id: UUID
    objects: list[str]
    files: list[str]


async def _doomed(tx: Transaction, document: UUID) -> _Doomed:
    files = await blobs.mark_contents(tx, await documents.contents_of(tx, document))
    return _Doomed(document, await documents.objects_of(tx, document), [file.key for file in files])


async def _forget(tx: Transaction, doomed: _Doomed) -> None:
    texts = await documents.forget_objects(tx, doomed.document_id)
    await blobs.forget(tx, doomed.files)
    kept_until = {kind: tx.now + timedelta(days=days) for kind, days in KEPT_DAYS.items()}
    removed = {"files": len(doomed.files), "texts": texts}
    await tx.report("ingest.erase", "running", removed=removed, kept_until=kept_until)
