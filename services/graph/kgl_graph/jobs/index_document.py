"""Job: chunks to vectors and searchable rows."""

from kgl_graph.jobs.declared import EVERY_VERSION, ForgetVectors, IndexDocument, jobs
from kgl_graph.jobs.outside import Outside
from kgl_graph.stores.chunk_reader import read_searchable
from kgl_graph.use_cases.forget_document import forget_document, request_ids
from kgl_graph.use_cases.record_indexed import RecordIndexed, is_searchable, record_indexed
from kgl_servicekit.jobs.runner import Job
from kgl_servicekit.places import chunks_folder, results_folder


@jobs.handles(IndexDocument, timeout=300, attempts=8, concurrency=3)
async def index_document(job: Job[IndexDocument], outside: Outside) -> None:
    """Embed the chunks, store their vectors, and record them; an older version than the newest has no effect."""
    data = job.data
    command = RecordIndexed(document_id=data.document_id, version=data.version, chunks=())
    if not await job.run(is_searchable, command):
        await job.finish(record_indexed, command, state="superseded")
        return
    folder = chunks_folder(job.workspace_id, data.document_id, data.version)
    found = await read_searchable(outside.objects, outside.embedder, folder, data.chunks_object, data.sha256)
    await outside.vectors.upsert(job.workspace_id, data.document_id, data.version, found.vectors)
    await job.finish(
        record_indexed, RecordIndexed(document_id=data.document_id, version=data.version, chunks=found.chunks)
    )


@jobs.handles(ForgetVectors, timeout=120, attempts=20)
async def forget_vectors(job: Job[ForgetVectors], outside: Outside) -> None:
    """Remove the vectors of older versions; of a deleted document also all that modules said of it."""
    await outside.vectors.delete(job.workspace_id, job.data.document_id, job.data.below_version)
    if job.data.below_version == EVERY_VERSION:
        for request in await job.run(request_ids, job.data.document_id):
            async for entry in outside.objects.listed(results_folder(job.workspace_id, request)):
                await outside.objects.delete(entry.key)
        await job.finish(forget_document, job.data.document_id)
