"""Job: chunks to vectors and searchable rows."""

import hashlib

from kgl_graph.domain.chunks import Chunk, read_chunks
from kgl_graph.jobs.declared import ForgetVectors, IndexDocument, jobs
from kgl_graph.jobs.outside import Outside
from kgl_graph.stores.vectors import Embedded
from kgl_graph.use_cases.record_indexed import RecordIndexed, is_current, record_indexed
from kgl_servicekit.errors import JobFailed
from kgl_servicekit.jobs.runner import Job
from kgl_servicekit.objects.port import ObjectMissing


@jobs.handles(IndexDocument, timeout=300, attempts=8, concurrency=3)
async def index_document(job: Job[IndexDocument], outside: Outside) -> None:
    """Embed the chunks, store their vectors, and record them; an older version than the newest has no effect."""
    data = job.data
    command = RecordIndexed(document_id=data.document_id, version=data.version, chunks=())
    if not await job.run(is_current, command):
        await job.finish(record_indexed, command, state="superseded")
        return
    try:
        content = await outside.objects.get(data.chunks_object)
    except ObjectMissing as missing:
        raise JobFailed("chunks_missing", "The chunks of this version are not in the object store.") from missing
    if hashlib.sha256(content).hexdigest() != data.sha256:
        raise JobFailed("chunks_damaged", "The chunks in the object store are not those that were parsed.")
    chunks = read_chunks(content)
    vectors = await outside.embedder.embed([_embedded_text(chunk) for chunk in chunks])
    items = [Embedded(chunk.id, vector) for chunk, vector in zip(chunks, vectors, strict=True)]
    await outside.vectors.upsert(job.workspace_id, data.document_id, data.version, items)
    await job.finish(
        record_indexed, RecordIndexed(document_id=data.document_id, version=data.version, chunks=tuple(chunks))
    )


@jobs.handles(ForgetVectors, timeout=120, attempts=20)
async def forget_vectors(job: Job[ForgetVectors], outside: Outside) -> None:
    """Remove the vectors of older versions, or of a deleted document."""
    await outside.vectors.delete(job.workspace_id, job.data.document_id, job.data.below_version)


def _embedded_text(chunk: Chunk) -> str:
    return f"{chunk.title}\n{chunk.text}" if chunk.title else chunk.text
