"""Accept a document, or a new version of one: record it and all that follows from it, or nothing."""

from dataclasses import dataclass
from uuid import UUID

from kgl_contracts.ingest import DocumentAccepted
from kgl_ingest.db import blobs, documents
from kgl_ingest.domain.documents import (
    DocumentDeletedAlready,
    DocumentNotFound,
    DuplicateDocument,
    OnDuplicate,
    file_key,
    ingest_plan,
    planned_modules,
    subject_of,
)
from kgl_ingest.jobs.declared import ParseDocument
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.identity import modules
from kgl_servicekit.operations import Receipt


class BlobGone(Exception):
    """The file that this content was thought to be stored in is going or gone; it has to be stored anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptDocument:
    """A stored file to be accepted. `document_id` is None for a new document.

    `fresh` says that it was stored under this generation just now, and was not there before.
    """

    sha256: str
    size: int
    generation: int
    fresh: bool
    media_type: str
    charset: str | None
    name: str | None
    title: str | None
    on_duplicate: OnDuplicate
    document_id: UUID | None = None


async def accept_document(tx: Transaction, command: AcceptDocument) -> Receipt:
    """Record the version, its receipt, its first job and its event.

    Raises: DuplicateDocument (409) when the content is known and the policy is `error`;
    DocumentNotFound (404), DocumentDeletedAlready (410) for a version of a document that is not there;
    BlobGone, never when it is fresh.
    """
    await documents.lock_content(tx, command.sha256)
    known = await documents.find_by_content(tx, command.sha256)
    if known is not None and command.on_duplicate is OnDuplicate.ERROR:
        raise DuplicateDocument(existing=known)
    generation = await blobs.claim(tx, command.sha256, command.generation, command.size, fresh=command.fresh)
    if generation is None:
        raise BlobGone
    document, version = await _place(tx, command)
    planned = planned_modules(await modules(tx, tx.workspace))
    receipt = await tx.start_operation("ingest.document", subject_of(document), ingest_plan(planned))
    key = file_key(tx.workspace, command.sha256, generation)
    row = {
        "media_type": command.media_type,
        "charset": command.charset,
        "size": command.size,
        "sha256": command.sha256,
        "object_key": key,
        "operation_id": receipt.id,
        "modules": planned,
        "title": command.title,
    }
    await documents.add_version(tx, document, version, row)
    job = ParseDocument(
        document_id=document,
        version=version,
        media_type=command.media_type,
        charset=command.charset,
        object_key=key,
    )
    await tx.start_job(job, operation=receipt.id)
    accepted = DocumentAccepted(
        document_id=document,
        version=version,
        media_type=command.media_type,
        size=command.size,
        sha256=command.sha256,
    )
    await tx.emit(accepted, operation=receipt.id)
    return receipt


async def _place(tx: Transaction, command: AcceptDocument) -> tuple[UUID, int]:
    """The document that the content belongs to, and the number of its version."""
    if command.document_id is None:
        document = tx.new_id("document")
        await documents.add(tx, document, command.name, command.title)
        return document, 1
    row = await documents.lock(tx, command.document_id)
    if row is None:
        raise DocumentNotFound
    if row["deleted_at"] is not None:
        raise DocumentDeletedAlready
    return command.document_id, row["version"] + 1
