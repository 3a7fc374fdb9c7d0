"""/modules/v1/results: the events that a module would publish on its own topic, for whoever has no broker."""

from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from kgl_contracts.envelope import Envelope
from kgl_contracts.given import ExtractionGiven, SummaryGiven
from kgl_graph.db import requests
from kgl_graph.use_cases.hear_given import hear_given
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Invalid
from kgl_servicekit.events.subscription import Reject, Superseded
from kgl_servicekit.http import ApiRouter, Caller, Run

router = ApiRouter(tags=["modules"])


class ResultRejected(Invalid, code="result_rejected", status=422):
    """`detail` says what the result contradicts: your module, its workspace, or the request. It is not taken."""


class _Given(BaseModel):
    """A CloudEvent in JSON, of which these attributes are read."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: UUID = Field(description="the same for each repeat; the first one is taken")
    source: str = Field(max_length=64, description="the module; that of your key, where it names one")


class GivenExtraction(_Given):
    """What a module found."""

    type: Literal["ai.extraction.given.v1"]
    data: ExtractionGiven


class GivenSummary(_Given):
    """What a module wrote."""

    type: Literal["ai.summary.given.v1"]
    data: SummaryGiven


class Taken(BaseModel):
    """What became of a result: it is taken in soon, or nobody waits for it any more; the receipt is the document's."""

    model_config = ConfigDict(frozen=True)

    state: Literal["accepted", "superseded"]
    operation_id: UUID | None


@dataclass(frozen=True, slots=True)
class _GiveResult:
    module: str
    given: GivenExtraction | GivenSummary


@router.post("/results", status_code=202, permission="modules:work", problems=[ResultRejected])
async def give_result(
    body: Annotated[GivenExtraction | GivenSummary, Field(discriminator="type")], caller: Caller, run: Run
) -> Taken:
    """Answer a request without a lease. The receipt of the document shows what becomes of it."""
    return await run(_give, _GiveResult(caller.module or body.source, body))


async def _give(tx: Transaction, command: _GiveResult) -> Taken:
    given = command.given
    envelope = Envelope(id=given.id, type=given.type, source=given.source, time=tx.now, workspace_id=tx.workspace)
    verdict = await hear_given(tx, command.module, envelope, given.data)
    if isinstance(verdict, Reject):
        raise ResultRejected(verdict.reason, errors=[])
    operation = await requests.operation_of(tx, given.data.request_id)
    return Taken(state="superseded" if isinstance(verdict, Superseded) else "accepted", operation_id=operation)
