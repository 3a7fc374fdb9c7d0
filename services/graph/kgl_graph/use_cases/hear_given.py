"""A module gives a result by an event. It is taken in by a job, through the door that HTTP has."""

from dataclasses import dataclass

from kgl_contracts.ai import Extraction, Summary
from kgl_contracts.envelope import Envelope
from kgl_contracts.given import ExtractionGiven, SummaryGiven
from kgl_graph.db import requests
from kgl_graph.jobs.declared import TakeGiven
from kgl_graph.use_cases.answer_request import Held
from kgl_graph.use_cases.hear_document import stage_of
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import DONE, SUPERSEDED, Reject, Verdict
from kgl_servicekit.identity.access import modules

LEASE_SECONDS = 120.0
LOOK_AGAIN_SECONDS = 5.0
_OPEN = {"waiting", "ready", "leased"}


@dataclass(frozen=True, slots=True)
class NotIndexed:
    """The chunks of the document are not here yet, so that the places in a result cannot be checked."""


async def hear_given(tx: Transaction, module: str, envelope: Envelope, data: ExtractionGiven | SummaryGiven) -> Verdict:
    """Have a result taken in. `module` is whose topic it is; what contradicts that is rejected."""
    result: Extraction | Summary = data.extraction if isinstance(data, ExtractionGiven) else data.summary
    if envelope.source != module:
        return Reject(f"the source is {envelope.source!r}, and the topic is that of {module!r}")
    if envelope.workspace_id is None:
        return Reject("the event names no workspace; send on the one of the request")
    if module not in {enabled.name for enabled in await modules(tx, tx.workspace)}:
        return Reject(f"{module!r} is not enabled in this workspace")
    row = await requests.lock(tx, data.request_id)
    if row is None or row["module"] != module or row["document_id"] != data.document_id:
        return Reject("there is no such request about this document for this module in this workspace")
    if isinstance(result, Extraction) != (row["capability"] == "extract"):
        return Reject(f"the request is to {row['capability']}")
    if row["state"] not in _OPEN:
        return SUPERSEDED
    take = TakeGiven(request_id=data.request_id, module=module, result=result)
    # the sender chose the id of the event: it tells events apart for this module in this workspace only
    await tx.start_job(take, operation=row["operation_id"], key=f"{tx.workspace}/{module}/{envelope.id}")
    return DONE


async def take_request(tx: Transaction, data: TakeGiven) -> Held | NotIndexed | None:
    """Lease the request to the job that answers it; None when it needs no answer any more."""
    row = await requests.lock(tx, data.request_id)
    if row is None or row["state"] not in _OPEN:
        return None
    if row["state"] == "waiting":
        return NotIndexed()
    holder = f"{data.module}@{tx.cause.actor}"
    token, attempt = await requests.take(tx, data.request_id, holder, LEASE_SECONDS)
    stage = stage_of(row["capability"], row["module"])
    await tx.report(stage, "running", operation=row["operation_id"], attempt=attempt, holder=holder)
    return Held(id=data.request_id, token=token, module=data.module)


async def look_again(tx: Transaction, data: TakeGiven) -> None:
    """Take the result in later; the deadline of the request ends that."""
    await tx.start_job(data, delay=LOOK_AGAIN_SECONDS, key=f"{data.request_id}/{tx.cause.id}")
