"""Job: a module's result to entities, relations and mentions."""

import hashlib

from kgl_contracts.ai import Extraction
from kgl_graph.jobs.declared import LinkDocument, jobs
from kgl_graph.jobs.outside import Outside
from kgl_graph.use_cases.forget_document import is_gone
from kgl_graph.use_cases.link_extraction import LinkExtraction, link_extraction
from kgl_servicekit.errors import JobFailed
from kgl_servicekit.jobs.runner import Job
from kgl_servicekit.objects.port import ObjectMissing
from kgl_servicekit.objects.within import read_within
from kgl_servicekit.places import request_id, results_folder


@jobs.handles(LinkDocument, timeout=120, attempts=8, concurrency=2)
async def link_document(job: Job[LinkDocument], outside: Outside) -> None:
    """Replace what this module said of the document before."""
    request = request_id(job.workspace_id, job.data.document_id, job.data.version, job.data.module, "extract")
    try:
        content = await read_within(outside.objects, results_folder(job.workspace_id, request), job.data.result_object)
    except ObjectMissing as missing:
        if await job.run(is_gone, job.data.document_id):
            await job.finish_without_effect(state="superseded")
            return
        raise JobFailed("result_missing", "The module's result is not in the object store.") from missing
    if hashlib.sha256(content).hexdigest() != job.data.sha256:
        raise JobFailed("result_damaged", "The result in the object store is not the one that was given.")
    await job.finish(
        link_extraction,
        LinkExtraction(
            document_id=job.data.document_id,
            version=job.data.version,
            module=job.data.module,
            sha256=job.data.sha256,
            extraction=Extraction.model_validate_json(content),
        ),
    )
