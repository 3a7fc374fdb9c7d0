"""Job: the vectors of a searchable version again, in the place of those that are there."""

from kgl_graph.db import search_index
from kgl_graph.jobs.declared import EmbedChunks, jobs
from kgl_graph.jobs.outside import Outside
from kgl_graph.stores.chunk_reader import embedded
from kgl_servicekit.jobs.runner import Job


@jobs.handles(EmbedChunks, timeout=300, attempts=8, concurrency=1)
async def embed_chunks(job: Job[EmbedChunks], outside: Outside) -> None:
    """Forget what is there and store them anew; a version that cannot be found any more has no effect."""
    document, version = job.data.document_id, job.data.version
    chunks = await job.run(search_index.present_chunks, (document, version))
    if chunks is None:
        await job.finish_without_effect(state="superseded")
        return
    vectors = await embedded(outside.embedder, chunks)
    await outside.vectors.delete(job.workspace_id, document, version + 1)
    await outside.vectors.upsert(job.workspace_id, document, version, vectors)
    await job.finish_without_effect()
