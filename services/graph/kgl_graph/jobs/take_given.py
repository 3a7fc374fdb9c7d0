"""Job: a result that came by an event is checked, stored, recorded and told, like one that came over HTTP."""

import hashlib

from kgl_graph.domain.results import result_key
from kgl_graph.jobs.declared import TakeGiven, jobs
from kgl_graph.jobs.outside import Outside
from kgl_graph.use_cases.answer_request import (
    Complete,
    Fail,
    ResultMismatch,
    SpansWrong,
    check_result,
    complete_request,
    fail_request,
)
from kgl_graph.use_cases.hear_given import NotIndexed, look_again, take_request
from kgl_servicekit.jobs.runner import Job


@jobs.handles(TakeGiven, timeout=60, attempts=8, concurrency=2)
async def take_given(job: Job[TakeGiven], outside: Outside) -> None:
    """Answer the request; a wrong result ends it, as the module will not give another by itself."""
    held = await job.run(take_request, job.data)
    if held is None:
        return
    if isinstance(held, NotIndexed):
        await job.finish(look_again, job.data)
        return
    result = job.data.result
    try:
        await job.run(check_result, (held, result))
    except (SpansWrong, ResultMismatch) as wrong:
        fail = Fail(id=held.id, token=held.token, module=held.module, code=wrong.code, retry=False)
        await job.finish(fail_request, fail)
        return
    content = result.model_dump_json().encode()
    sha256 = hashlib.sha256(content).hexdigest()
    key = result_key(job.workspace_id, held.id, sha256)
    await outside.objects.put(key, content)
    await job.finish(
        complete_request,
        Complete(id=held.id, token=held.token, module=held.module, result=result, object=key, sha256=sha256),
    )
