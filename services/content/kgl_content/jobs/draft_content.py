"""Job: a module's stored text to a draft."""

import hashlib

from kgl_content.jobs.declared import DraftContent, Outside, jobs
from kgl_content.use_cases.draft_item import RecordGenerated, is_gone, record_generated
from kgl_contracts.ai import Summary
from kgl_servicekit.errors import JobFailed
from kgl_servicekit.jobs.runner import Job
from kgl_servicekit.objects.port import ObjectMissing
from kgl_servicekit.objects.within import read_within
from kgl_servicekit.places import request_id, results_folder


@jobs.handles(DraftContent, timeout=60, attempts=8)
async def draft_content(job: Job[DraftContent], outside: Outside) -> None:
    """Read the text and record it as a draft."""
    request = request_id(job.workspace_id, job.data.document_id, job.data.version, job.data.module, "summarise")
    try:
        content = await read_within(outside.objects, results_folder(job.workspace_id, request), job.data.result_object)
    except ObjectMissing as missing:
        if not await job.run(is_gone, job.data.document_id):
            # graph removes the texts of deleted documents, and that this is one may be heard of a moment later
            sentence = "The module's text is not in the object store."
            raise JobFailed("result_missing", sentence, retry=True) from missing
        await job.finish_without_effect(state="superseded")
        return
    if hashlib.sha256(content).hexdigest() != job.data.sha256:
        raise JobFailed("result_damaged", "The text in the object store is not the one that was given.")
    await job.finish(
        record_generated,
        RecordGenerated(
            document_id=job.data.document_id,
            version=job.data.version,
            module=job.data.module,
            kind=job.data.kind_of_text,
            sha256=job.data.sha256,
            summary=Summary.model_validate_json(content),
        ),
    )
