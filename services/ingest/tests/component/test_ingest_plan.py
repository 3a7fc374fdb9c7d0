"""The plan of a document version stays what it was at acceptance, whatever is enabled later."""

from uuid import UUID

from kgl_contracts.ingest import DocumentParsed, PlannedModule
from kgl_ingest.testing import Ingest, manifest
from kgl_ingest.use_cases.delete_document import delete_document
from kgl_ingest.use_cases.record_parsed import record_file_missing, record_parsed
from kgl_servicekit.database.cause import Cause
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.modules import hear_module, told_stages

TAGGER = PlannedModule(name="tagger", capabilities=("extract",), mode="optional", deadline_seconds=60)
READER = PlannedModule(name="reader", capabilities=("summarise",), mode="required", deadline_seconds=600)
STAGES = (
    "ingest.parse",
    "graph.index",
    "graph.summarise.reader",
    "content.draft.reader",
    "graph.extract.tagger",
    "graph.link.tagger",
    "publish.live",
)


async def accepted(ingest: Ingest) -> tuple[UUID, UUID]:
    """A document and its operation, accepted while the tagger was enabled, which it is not any more."""
    await hear_module(ingest.database, ingest.workspace, "tagger", "extract", mode="optional", deadline_seconds=60)
    receipt = (await ingest.upload("some text")).json()
    assert sorted(stage["name"] for stage in receipt["stages"]) == sorted(STAGES)
    await hear_module(ingest.database, ingest.workspace, "tagger", "extract", deleted=True)
    return UUID(receipt["subject"]), UUID(receipt["id"])


def job(operation: UUID) -> Cause:
    return Cause(id=uuid7(), kind="job", actor="service:test", operation_id=operation)


async def test_a_parsed_version_tells_the_modules_that_its_plan_counts_on(ingest: Ingest) -> None:
    document, operation = await accepted(ingest)
    await ingest.database.run(ingest.workspace, record_parsed, manifest(document), cause=job(operation))

    async def read(tx: Transaction, _: None) -> bytes:
        found: bytes = await tx.fetchval("select data from outbox_log where type = $1", DocumentParsed.event_type)
        return found

    told = DocumentParsed.model_validate_json(await ingest.database.run((), read, None))
    assert told.modules == (READER, TAGGER)


async def test_all_planned_stages_of_a_version_that_was_deleted_first_are_superseded(ingest: Ingest) -> None:
    document, operation = await accepted(ingest)
    await ingest.database.run(ingest.workspace, delete_document, document)
    await ingest.database.run(ingest.workspace, record_parsed, manifest(document), cause=job(operation))
    assert await told_stages(ingest.database, operation) == dict.fromkeys(STAGES, "superseded")


async def test_all_planned_stages_of_a_version_whose_file_went_are_superseded(ingest: Ingest) -> None:
    document, operation = await accepted(ingest)
    await ingest.database.run(ingest.workspace, delete_document, document)
    await ingest.database.run(ingest.workspace, record_file_missing, (document, 1), cause=job(operation))
    assert await told_stages(ingest.database, operation) == dict.fromkeys(STAGES, "superseded")


async def test_all_planned_stages_of_a_cancelled_operation_are_cancelled(ingest: Ingest) -> None:
    _, operation = await accepted(ingest)
    await ingest.client.post(f"/operations/v1/{operation}:cancel", headers=ingest.headers)
    assert await told_stages(ingest.database, operation) == dict.fromkeys(STAGES, "cancelled")


async def test_a_version_that_was_accepted_before_plans_were_kept_has_that_of_now(ingest: Ingest) -> None:
    document, operation = await accepted(ingest)

    async def forget(tx: Transaction, _: None) -> None:
        await tx.execute("update document_version set modules = null")

    await ingest.database.run(ingest.workspace, forget, None)
    await ingest.database.run(ingest.workspace, delete_document, document)
    await ingest.database.run(ingest.workspace, record_parsed, manifest(document), cause=job(operation))
    told = await told_stages(ingest.database, operation)
    assert {"graph.extract.reader", "graph.link.reader"} < set(told)
