"""/ingest/v1/documents: documents and their versions."""

import asyncio
import contextlib
import hashlib
import time
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Annotated
from urllib.parse import quote
from uuid import UUID

from fastapi import Depends, Path, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from kgl_ingest.api.upload import BODY, PROBLEMS, Upload, Uploaded
from kgl_ingest.db import blobs
from kgl_ingest.domain.documents import (
    Document,
    DocumentDeletedAlready,
    DocumentNotFound,
    DuplicateDocument,
    VersionNotParsed,
    file_key,
)
from kgl_ingest.jobs.outside import Outside
from kgl_ingest.settings import IngestSettings
from kgl_ingest.use_cases.accept_document import AcceptDocument, BlobGone, accept_document
from kgl_ingest.use_cases.delete_document import delete_document
from kgl_ingest.use_cases.read_document import (
    ListDocuments,
    ReadVersion,
    Version,
    list_documents,
    read_document,
    read_version,
)
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.failpoints import failpoint
from kgl_servicekit.http import ApiRouter, Caller, Page, PageParams, Reply, Run, page
from kgl_servicekit.operations import Receipt

router = ApiRouter(prefix="/documents", tags=["documents"])


class FileLink(BaseModel):
    """Where a file can be downloaded from."""

    model_config = ConfigDict(frozen=True)

    url: str
    expires_at: datetime | None = Field(description="until when the URL works; null: as long as the file is there")
    needs_token: bool = Field(description="whether the Authorization header of this API has to be sent with it")


async def _outside(request: Request) -> Outside:
    outside: Outside = request.app.state.outside
    return outside


OutsideOf = Annotated[Outside, Depends(_outside)]
VersionNumber = Annotated[int, Path(ge=1, le=2**31 - 1)]
SomeVersion = Annotated[int | None, Query(ge=1, le=2**31 - 1, description="the current one by default")]
_MISSING = [DocumentNotFound, DocumentDeletedAlready]


def _receipt(receipt: Receipt) -> Reply:
    return Reply(headers={"Location": f"/operations/v1/{receipt.id}"})


async def _accept(upload: Upload, caller: Caller, run: Run, outside: Outside, document: UUID | None) -> Receipt:
    """Store the file first, unless it is there: the transaction that accepts it then only refers to it."""
    sha256 = (await asyncio.to_thread(hashlib.sha256, upload.content)).hexdigest()
    living = await run.read(blobs.living_generation, sha256)
    if living is not None:
        with contextlib.suppress(BlobGone):
            return await run(accept_document, _command(upload, sha256, living, document, fresh=False), reply=_receipt)
    generation = time.time_ns() // 1_000_000  # no two uploads of a content a day apart ever share one
    await outside.objects.put(file_key(caller.workspace_id, sha256, generation), upload.content)
    failpoint("object.written")
    return await run(accept_document, _command(upload, sha256, generation, document, fresh=True), reply=_receipt)


def _command(upload: Upload, sha256: str, generation: int, document: UUID | None, *, fresh: bool) -> AcceptDocument:
    return AcceptDocument(
        sha256=sha256,
        size=len(upload.content),
        generation=generation,
        fresh=fresh,
        media_type=upload.media_type,
        charset=upload.charset,
        name=upload.fields.name,
        title=upload.fields.title,
        on_duplicate=upload.fields.on_duplicate,
        document_id=document,
    )


@router.post(
    "",
    status_code=202,
    permission="documents:write",
    problems=[DuplicateDocument, *PROBLEMS],
    upload=True,
    deadline=120.0,
    openapi_extra=BODY,
)
async def create_document(upload: Uploaded, caller: Caller, run: Run, outside: OutsideOf) -> Receipt:
    """Accept a document; parsing, indexing, extraction and linking follow in the background."""
    return await _accept(upload, caller, run, outside, None)


@router.post(
    "/{document_id}/versions",
    status_code=202,
    permission="documents:write",
    problems=[DuplicateDocument, *_MISSING, *PROBLEMS],
    upload=True,
    deadline=120.0,
    openapi_extra=BODY,
)
async def create_version(document_id: UUID, upload: Uploaded, caller: Caller, run: Run, outside: OutsideOf) -> Receipt:
    """Accept new content for a document; it replaces the earlier version in search and graph."""
    return await _accept(upload, caller, run, outside, document_id)


@router.get("", permission="documents:read")
async def get_documents(
    window: PageParams,
    run: Run,
    state: Annotated[str | None, Query(description="accepted, parsed or failed")] = None,
) -> Page[Document]:
    """Documents, newest first."""
    before = None
    if window.position is not None:
        before = (datetime.fromisoformat(window.position[0]), UUID(window.position[1]))
    found = await run(list_documents, ListDocuments(limit=window.fetch, before=before, state=state))
    return page(found, window.limit, lambda row: [row.created_at.isoformat(), str(row.id)])


@router.get("/{document_id}", permission="documents:read", problems=_MISSING)
async def get_document(document_id: UUID, run: Run) -> Document:
    """One document with its current version."""
    return await run(read_document, document_id)


@router.delete("/{document_id}", status_code=202, permission="documents:delete", problems=_MISSING)
async def remove_document(document_id: UUID, run: Run) -> Receipt:
    """Delete a document with everything that was derived from it."""
    return await run(delete_document, document_id, reply=_receipt)


@router.get(
    "/{document_id}/versions/{version}/chunks",
    permission="documents:read",
    problems=[*_MISSING, VersionNotParsed],
    response_class=StreamingResponse,
    deadline=None,
)
async def get_chunks(
    document_id: UUID,
    version: VersionNumber,
    request: Request,
    run: Run,
    outside: OutsideOf,
    cursor: Annotated[int, Query(ge=0, description="ordinal of the first chunk to send")] = 0,
) -> StreamingResponse:
    """The chunks of a version as JSON Lines, in order; gzip if the client takes it."""
    found = await run(_parsed_version, ReadVersion(document_id, version))
    lines = _lines_from(outside.objects.stream(found.chunks_object or ""), cursor)
    tag = f"{found.chunks_sha256}-{cursor}"
    headers = {"ETag": f'"{tag}"', "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        # a strong tag names octets, and the packed ones are others (RFC 9110, 8.8.3.3)
        headers |= {"ETag": f'"{tag}-gzip"', "Content-Encoding": "gzip"}
        lines = _gzipped(lines)
    return StreamingResponse(lines, media_type="application/jsonl", headers=headers)


@router.get(
    "/{document_id}/versions/{version}/text",
    permission="documents:read",
    problems=[*_MISSING, VersionNotParsed],
    response_class=StreamingResponse,
    deadline=None,
)
async def get_text(document_id: UUID, version: VersionNumber, run: Run, outside: OutsideOf) -> StreamingResponse:
    """The text that spans and mentions count their characters in."""
    found = await run(_parsed_version, ReadVersion(document_id, version))
    return StreamingResponse(
        outside.objects.stream(found.text_object or ""),
        media_type="text/plain; charset=utf-8",
        headers={"ETag": f'"{found.chunks_sha256}-text"'},
    )


@router.get(
    "/{document_id}/file",
    permission="documents:read",
    problems=_MISSING,
    response_class=StreamingResponse,
    deadline=None,
)
async def get_file(
    document_id: UUID,
    run: Run,
    outside: OutsideOf,
    version: SomeVersion = None,
) -> StreamingResponse:
    """The file as it was uploaded, as an attachment that no browser runs."""
    _, found = await _file_of(run, document_id, version)
    name = quote(found.name or f"{document_id}", safe="")
    return StreamingResponse(
        outside.objects.stream(found.object_key),
        media_type=found.media_type,
        headers={
            "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
            "Content-Security-Policy": "sandbox; default-src 'none'",
            "Content-Length": str(found.size),
            "ETag": f'"{found.sha256}"',
        },
    )


@router.get("/{document_id}/file/link", permission="documents:read", problems=_MISSING, cache="no-store")
async def get_file_link(
    document_id: UUID, request: Request, run: Run, outside: OutsideOf, version: SomeVersion = None
) -> FileLink:
    """A URL of the file for a browser to go to, which a page cannot send a token with."""
    number, found = await _file_of(run, document_id, version)
    settings: IngestSettings = request.app.state.kit.settings
    expires_at = datetime.now(UTC) + timedelta(seconds=settings.link_seconds)
    url = outside.objects.link(found.object_key, settings.link_seconds, name=found.name or f"{document_id}")
    if url is not None:
        return FileLink(url=url, expires_at=expires_at, needs_token=False)
    url = f"{settings.public_url}/ingest/v1/documents/{document_id}/file?version={number}"
    return FileLink(url=url, expires_at=None, needs_token=True)


async def _file_of(run: Run, document_id: UUID, version: int | None) -> tuple[int, Version]:
    number = version or (await run.read(read_document, document_id)).version
    return number, await run.read(read_version, ReadVersion(document_id, number))


async def _parsed_version(tx: Transaction, asked: ReadVersion) -> Version:
    found = await read_version(tx, asked)
    if found.chunks_object is None:
        raise VersionNotParsed(operation_id=found.operation_id)
    return found


async def _lines_from(blocks: AsyncIterator[bytes], first: int) -> AsyncIterator[bytes]:
    """The lines of an object from the one with this number."""
    skipped, rest = 0, b""
    async for block in blocks:
        if skipped >= first:
            yield block
            continue
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        wanted = lines[first - skipped :]
        skipped += len(lines) - len(wanted)
        if skipped >= first:
            yield b"".join(line + b"\n" for line in wanted) + rest


async def _gzipped(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    pack = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    async for block in blocks:
        if packed := pack.compress(block):
            yield packed
    yield pack.flush()
