"""Job: tell a page of documents. It needs nothing of the world outside."""

from kgl_ingest.jobs.declared import jobs
from kgl_ingest.jobs.outside import Outside
from kgl_ingest.jobs.snapshot import SnapshotDocuments
from kgl_ingest.use_cases.snapshot_documents import DOCUMENTS
from kgl_servicekit.jobs.runner import Job


@jobs.handles(SnapshotDocuments, timeout=60, attempts=20, concurrency=1)
async def snapshot_documents(job: Job[SnapshotDocuments], _: Outside) -> None:
    """One page in one transaction with the order for the next."""
    await job.finish(DOCUMENTS.tell_page, job.data)
