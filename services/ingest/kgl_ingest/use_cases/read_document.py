"""Read documents: what is deleted answers 410, what was never there 404."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kgl_ingest.db import documents
from kgl_ingest.domain.documents import Document, DocumentDeletedAlready, DocumentNotFound
from kgl_servicekit.database.transaction import Transaction


@dataclass(frozen=True, slots=True)
class ListDocuments:
    """Which documents; `before` is the place of the last one of the page before."""

    limit: int
    before: tuple[datetime, UUID] | None
    state: str | None


@dataclass(frozen=True, slots=True)
class ReadVersion:
    """Which version of which document."""

    document_id: UUID
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """Where the objects of a version lie; those of a version that is not parsed are None."""

    name: str | None
    media_type: str
    size: int
    sha256: str
    object_key: str
    chunks_object: str | None
    chunks_sha256: str | None
    text_object: str | None
    operation_id: UUID


async def list_documents(tx: Transaction, asked: ListDocuments) -> Sequence[Document]:
    """Documents, newest first."""
    return await documents.listed(tx, limit=asked.limit, before=asked.before, state=asked.state)


async def read_document(tx: Transaction, document_id: UUID) -> Document:
    """One document; raises DocumentNotFound, DocumentDeletedAlready."""
    found = await documents.find(tx, document_id)
    if found is None:
        raise DocumentNotFound
    document, deleted_at = found
    if deleted_at is not None:
        raise DocumentDeletedAlready
    return document


async def read_version(tx: Transaction, asked: ReadVersion) -> Version:
    """One version; raises DocumentNotFound, DocumentDeletedAlready."""
    row = await documents.find_version(tx, asked.document_id, asked.version)
    if row is None:
        raise DocumentNotFound
    if row["deleted_at"] is not None:
        raise DocumentDeletedAlready
    return Version(**{name: row[name] for name in Version.__slots__})
