"""Keep what parsing made of a version, and tell everyone."""

from dataclasses import dataclass
from uuid import UUID

from kgl_contracts.ingest import DocumentParsed, chunks_url
from kgl_ingest.db import documents
from kgl_ingest.use_cases.read_plan import read_plan
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import JobFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordParsed:
    """The manifest of a parsed version; its chunks and text are stored already."""

    document_id: UUID
    version: int
    title: str
    chunks_object: str
    chunks_sha256: str
    text_object: str
    chunk_count: int
    text_length: int


async def record_parsed(tx: Transaction, command: RecordParsed) -> None:
    """Record and emit; a document that was deleted meanwhile gets nothing."""
    manifest = {
        "chunks_object": command.chunks_object,
        "chunks_sha256": command.chunks_sha256,
        "text_object": command.text_object,
        "chunk_count": command.chunk_count,
        "text_length": command.text_length,
    }
    if not await documents.mark_parsed(tx, command.document_id, command.version, title=command.title, parsed=manifest):
        await _supersede(tx, command.document_id, command.version)
        return
    await tx.emit(
        DocumentParsed(
            document_id=command.document_id,
            version=command.version,
            chunk_count=command.chunk_count,
            text_length=command.text_length,
            chunks_url=chunks_url(command.document_id, command.version),
            chunks_object=command.chunks_object,
            sha256=command.chunks_sha256,
            modules=await documents.planned_modules(tx, command.document_id, command.version),
        )
    )


async def record_file_missing(tx: Transaction, place: tuple[UUID, int]) -> None:
    """The file went with its document before it was parsed. Raises: JobFailed when the document is still there."""
    document_id, version = place
    if await documents.is_living(tx, document_id):
        raise JobFailed("file_missing", "The file of this version is not in the object store.")
    await _supersede(tx, document_id, version)


async def _supersede(tx: Transaction, document_id: UUID, version: int) -> None:
    for stage in await read_plan(tx, document_id, version):
        await tx.report(stage.name, "superseded")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordParseFailed:
    """Why a version cannot be parsed."""

    document_id: UUID
    version: int
    code: str


async def record_parse_failed(tx: Transaction, command: RecordParseFailed) -> None:
    """Show the failure at the document; the job reports it to the receipt."""
    await documents.mark_failed(tx, command.document_id, command.version, command.code)
