"""Documents come, change and go; events about them may come in any order."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from kgl_contracts.ai import Capability, ExtractionRequested
from kgl_contracts.ingest import (
    DocumentAccepted,
    DocumentCancelled,
    DocumentDeleted,
    DocumentParsed,
    PlannedModule,
    chunks_url,
)
from kgl_contracts.operations import StageState
from kgl_graph.db import documents, requests
from kgl_graph.db.search_index import PRESENT
from kgl_graph.jobs.declared import EVERY_VERSION, ForgetVectors, IndexDocument
from kgl_servicekit.database import last_results
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import DONE, SUPERSEDED, Verdict
from kgl_servicekit.identity.access import BUILT_IN, Module, known_modules, modules
from kgl_servicekit.places import request_id

CAPABILITIES: tuple[Capability, ...] = ("extract", "summarise")


async def hear_accepted(tx: Transaction, event: DocumentAccepted) -> Verdict:
    """Note the version; those before it stay at work until it is parsed, which may never be."""
    heard = await documents.hear(tx, event.document_id, event.version)
    return DONE if heard.newest else SUPERSEDED


async def hear_parsed(tx: Transaction, event: DocumentParsed) -> Verdict:
    """Have the version indexed, and each module of its plan asked for its results.

    Requests of a version that is not the newest parsed one end as they begin: the same ones exist in every order.
    The receipt waits for the stages of the plan, whatever was enabled since: a module that was disabled meanwhile is
    asked for nothing, and its stages are skipped.
    """
    heard = await documents.hear(tx, event.document_id, event.version, parsed=True)
    if heard.current:
        await end_older(tx, event.document_id, event.version)
    known = await known_modules(tx, tx.workspace)
    for module in await _planned(tx, event):
        for capability in CAPABILITIES:
            if capability not in module.capabilities:
                continue
            if heard.current and not _serves(known, module.name, capability):
                await end_stages(tx, capability, module.name, "skipped")
            else:
                await _request(tx, event, module, capability, wanted=heard.current)
    if not heard.current:
        await tx.report("graph.index", "superseded")
        return SUPERSEDED
    index = IndexDocument(
        document_id=event.document_id,
        version=event.version,
        chunks_object=event.chunks_object,
        sha256=event.sha256,
    )
    await tx.start_job(index, key=f"{event.document_id}/{event.version}")
    return DONE


async def hear_cancelled(tx: Transaction, event: DocumentCancelled) -> Verdict:
    """Withdraw the requests about this version that no module has answered; whoever holds one loses its lease.

    All else goes on: that a document can be found, and what was made of an answer, follow from events alone, and not
    from how far somebody's work was when it was cancelled.
    """
    withdrawn = await requests.cancel(tx, event.document_id, event.version)
    for row in withdrawn:
        await end_stages(tx, row["capability"], row["module"], "cancelled", row["operation_id"])
        if row["capability"] == "summarise":  # another module's text may be told still, and counts more then
            await tx.report("publish.live", "cancelled", operation=row["operation_id"])
    return DONE if withdrawn else SUPERSEDED


async def hear_deleted(tx: Transaction, event: DocumentDeleted) -> Verdict:
    """Remove the document from search, and have the rest removed by a job; its row stays as a tombstone.

    What modules said of it goes there: a batch of events that held entities of one document while it waits for the
    row of another one would wait for who links results of that one to the same entities.
    """
    await documents.hear(tx, event.document_id, event.version, deleted=True)
    await end_older(tx, event.document_id, EVERY_VERSION)
    chunks = await PRESENT.remove(tx, event.document_id)
    await last_results.forget(tx, event.document_id)
    forget = ForgetVectors(document_id=event.document_id, below_version=EVERY_VERSION)
    await tx.start_job(forget, key=f"{event.document_id}/all")
    await tx.report("graph.erase", "running", removed={"chunks": chunks})
    return DONE


async def end_older(tx: Transaction, document: UUID, version: int) -> None:
    """Requests about versions before this one need no answer any more."""
    for row in await requests.supersede(tx, document, version):
        await end_stages(tx, row["capability"], row["module"], "superseded", row["operation_id"])


async def end_stages(
    tx: Transaction, capability: str, module: str, state: StageState, operation: UUID | None = None
) -> None:
    """A request that will have no answer ends its stage and the following one."""
    await tx.report(stage_of(capability, module), state, operation=operation)
    await tx.report(following_stage_of(capability, module), state, operation=operation)


def _serves(known: Mapping[str, Module], name: str, capability: Capability) -> bool:
    """Whether a planned module can be asked still: the built-in one is always there, of a new one the plan knows."""
    return name == BUILT_IN.name or name not in known or capability in known[name].capabilities


async def _planned(tx: Transaction, event: DocumentParsed) -> Sequence[PlannedModule | Module]:
    """The modules that the receipt counts on; where nobody kept them, those that are enabled now."""
    return await modules(tx, tx.workspace) if event.modules is None else event.modules


async def _request(
    tx: Transaction, event: DocumentParsed, module: PlannedModule | Module, capability: Capability, *, wanted: bool
) -> None:
    request = request_id(tx.workspace, event.document_id, event.version, module.name, capability)
    url = chunks_url(event.document_id, event.version)  # what the event says may be somebody's correction
    made = await requests.add(
        tx,
        {
            "id": request,
            "document_id": event.document_id,
            "version": event.version,
            "module": module.name,
            "capability": capability,
            "mode": module.mode,
            "deadline_seconds": module.deadline_seconds,
            "chunks_url": url,
        },
        wanted=wanted,
    )
    if not wanted:
        await end_stages(tx, capability, module.name, "superseded")
    if not wanted or not made:
        return
    await tx.emit(
        ExtractionRequested(
            request_id=request,
            document_id=event.document_id,
            version=event.version,
            module=module.name,
            capability=capability,
            chunks_url=url,
        )
    )


def stage_of(capability: str, module: str) -> str:
    """The stage of a receipt that a request is."""
    return f"graph.{capability}.{module}"


def following_stage_of(capability: str, module: str) -> str:
    """The stage that a request's answer leads to."""
    return f"graph.link.{module}" if capability == "extract" else f"content.draft.{module}"
