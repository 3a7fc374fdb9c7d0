"""What becomes of a version that is parsed, deleted and cancelled at the same time."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg

from kgl_ingest.testing import Ingest, manifest
from kgl_ingest.use_cases.delete_document import delete_document
from kgl_ingest.use_cases.record_parsed import (
    RecordParseFailed,
    record_parse_failed,
    record_parsed,
)
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.testing.races import held_open, until_waiting


async def rows(ingest: Ingest, sql: str, *args: Any) -> Sequence[asyncpg.Record]:
    async def read(tx: Transaction, _: None) -> Sequence[asyncpg.Record]:
        return await tx.fetch(sql, *args)

    return await ingest.database.run(ingest.workspace, read, None)


async def version(ingest: Ingest, document: UUID) -> tuple[str, str | None]:
    """The state of a document's first version, and its error."""
    (row,) = await rows(ingest, "select state, error from document_version where document_id = $1", document)
    return row["state"], row["error"]


async def accepted(ingest: Ingest, text: str) -> UUID:
    return UUID((await ingest.upload(text)).json()["subject"])


async def test_a_document_that_is_deleted_while_its_parsing_ends_stays_deleted(ingest: Ingest) -> None:
    document = await accepted(ingest, "going")
    async with held_open(ingest.database, ingest.workspace, delete_document, document) as one:
        two = asyncio.create_task(ingest.database.run(ingest.workspace, record_parsed, manifest(document)))
        await until_waiting(ingest.database)
    await asyncio.gather(one, two)
    assert await version(ingest, document) == ("deleted", None)
    assert [row["title"] for row in await rows(ingest, "select title from document")] == [None]
    told = await rows(ingest, "select type from outbox_log where topic = 'kgl.documents' order by id")
    assert [row["type"] for row in told] == ["ingest.document.accepted.v1", "ingest.document.deleted.v1"]


async def test_an_attempt_that_fails_late_changes_no_version_that_ended_otherwise(ingest: Ingest) -> None:
    parsed, deleted, cancelled = [await accepted(ingest, text) for text in ("one", "two", "three")]
    await ingest.database.run(ingest.workspace, record_parsed, manifest(parsed))
    await ingest.database.run(ingest.workspace, delete_document, deleted)
    (row,) = await rows(ingest, "select operation_id from document_version where document_id = $1", cancelled)
    await ingest.client.post(f"/operations/v1/{row['operation_id']}:cancel", headers=ingest.headers)
    for document in (parsed, deleted, cancelled):
        failed = RecordParseFailed(document_id=document, version=1, code="no_text")
        await ingest.database.run(ingest.workspace, record_parse_failed, failed)
    ends = [await version(ingest, document) for document in (parsed, deleted, cancelled)]
    assert ends == [("parsed", None), ("deleted", None), ("cancelled", None)]


async def test_a_failed_attempt_is_forgotten_when_a_later_one_parses_or_is_cancelled(ingest: Ingest) -> None:
    parsed, cancelled = [await accepted(ingest, text) for text in ("one", "two")]
    for document in (parsed, cancelled):
        failed = RecordParseFailed(document_id=document, version=1, code="no_text")
        await ingest.database.run(ingest.workspace, record_parse_failed, failed)
        assert await version(ingest, document) == ("failed", "no_text")
    await ingest.database.run(ingest.workspace, record_parsed, manifest(parsed))
    (row,) = await rows(ingest, "select operation_id from document_version where document_id = $1", cancelled)
    await ingest.client.post(f"/operations/v1/{row['operation_id']}:cancel", headers=ingest.headers)
    assert await version(ingest, parsed) == ("parsed", None)
    assert (await version(ingest, cancelled))[0] == "cancelled"
