"""Statements of documents and versions."""

from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from kgl_contracts.ingest import PlannedModule
from kgl_ingest.domain.documents import Document
from kgl_servicekit.database.statements import rows_of
from kgl_servicekit.database.transaction import Transaction

_SHOWN = """
select d.id, d.name, d.title, v.state, d.version, v.media_type, v.size, v.sha256, v.chunk_count, v.text_length,
       v.error, v.operation_id, d.created_by, d.created_at, d.updated_at, d.deleted_at
from document d join document_version v on v.workspace_id = d.workspace_id and v.document_id = d.id
                                        and v.version = d.version
where d.workspace_id = $1
"""


async def lock_content(tx: Transaction, sha256: str) -> None:
    """Let one request at a time decide about this content in this workspace."""
    await tx.execute("select pg_advisory_xact_lock(hashtextextended($1, 0))", f"{tx.workspace}/{sha256}")


async def find_by_content(tx: Transaction, sha256: str) -> UUID | None:
    """The oldest living document with this content, unless its work was cancelled."""
    found: UUID | None = await tx.fetchval(
        """select v.document_id from document_version v
           join document d on d.workspace_id = v.workspace_id and d.id = v.document_id and d.version = v.version
           where v.workspace_id = $1 and v.sha256 = $2 and v.state <> 'cancelled' and d.deleted_at is null
           order by d.created_at, d.id limit 1""",
        tx.workspace,
        sha256,
    )
    return found


async def add(tx: Transaction, document: UUID, name: str | None, title: str | None) -> None:
    """A new document, before its first version."""
    await tx.execute(
        """insert into document (workspace_id, id, name, title, state, version, created_by, created_at, updated_at)
           values ($1, $2, $3, $4, 'live', 0, $5, $6, $6)""",
        tx.workspace,
        document,
        name,
        title,
        tx.cause.actor,
        tx.now,
    )


async def lock(tx: Transaction, document: UUID) -> asyncpg.Record | None:
    """The document's row, locked to the end of the transaction."""
    return await tx.fetchrow(
        "select * from document where workspace_id = $1 and id = $2 for update", tx.workspace, document
    )


async def add_version(tx: Transaction, document: UUID, version: int, row: dict[str, Any]) -> None:
    """A new version becomes the document's current one."""
    await tx.execute(
        """insert into document_version (workspace_id, document_id, version, state, media_type, charset, size, sha256,
                                         object_key, operation_id, created_at, modules, title)
           values ($1, $2, $3, 'accepted', $4, $5, $6, $7, $8, $9, $10, $11, $12)""",
        tx.workspace,
        document,
        version,
        row["media_type"],
        row["charset"],
        row["size"],
        row["sha256"],
        row["object_key"],
        row["operation_id"],
        tx.now,
        [module.model_dump(mode="json") for module in row["modules"]],
        row["title"],
    )
    await tx.execute(
        "update document set version = $3, updated_at = $4 where workspace_id = $1 and id = $2",
        tx.workspace,
        document,
        version,
        tx.now,
    )


async def find(tx: Transaction, document: UUID) -> tuple[Document, datetime | None] | None:
    """The document with its current version, and when it was deleted."""
    row = await tx.fetchrow(f"{_SHOWN} and d.id = $2", tx.workspace, document)
    return None if row is None else (_document(row), row["deleted_at"])


async def listed(
    tx: Transaction, *, limit: int, before: tuple[datetime, UUID] | None, state: str | None
) -> list[Document]:
    """Documents that are not deleted, newest first."""
    rows = await tx.fetch(
        f"""{_SHOWN} and d.deleted_at is null and ($2::timestamptz is null or (d.created_at, d.id) < ($2, $3))
            and ($4::text is null or v.state = $4)
            order by d.created_at desc, d.id desc limit $5""",
        tx.workspace,
        *(before or (None, None)),
        state,
        limit,
    )
    return [_document(row) for row in rows]


async def count(tx: Transaction) -> int:
    """How many documents there are, deleted ones not counted."""
    found: int = await tx.fetchval(
        "select count(*) from document where workspace_id = $1 and deleted_at is null", tx.workspace
    )
    return found


async def find_version(tx: Transaction, document: UUID, version: int) -> asyncpg.Record | None:
    """One version with its document's name and end."""
    return await tx.fetchrow(
        """select v.*, d.name, d.deleted_at from document_version v
           join document d on d.workspace_id = v.workspace_id and d.id = v.document_id
           where v.workspace_id = $1 and v.document_id = $2 and v.version = $3""",
        tx.workspace,
        document,
        version,
    )


async def planned_modules(tx: Transaction, document: UUID, version: int) -> tuple[PlannedModule, ...] | None:
    """The modules that the plan of this version counts on; None where they were not kept yet."""
    kept = await tx.fetchval(
        "select modules from document_version where workspace_id = $1 and document_id = $2 and version = $3",
        tx.workspace,
        document,
        version,
    )
    return None if kept is None else tuple(PlannedModule(**module) for module in kept)


async def mark_parsed(
    tx: Transaction, document: UUID, version: int, *, title: str | None, parsed: dict[str, Any]
) -> bool:
    """Keep what parsing made; False when the document is gone.

    Its row is locked first, as whoever deletes it does: a look at it without its lock sees no deletion that is on
    its way.
    """
    row = await lock(tx, document)
    if row is None or row["deleted_at"] is not None:
        return False
    await tx.execute(
        """update document_version
           set state = 'parsed', chunks_object = $4, chunks_sha256 = $5, text_object = $6, chunk_count = $7,
               text_length = $8, error = null
           where workspace_id = $1 and document_id = $2 and version = $3""",
        tx.workspace,
        document,
        version,
        parsed["chunks_object"],
        parsed["chunks_sha256"],
        parsed["text_object"],
        parsed["chunk_count"],
        parsed["text_length"],
    )
    await tx.execute(
        """update document set title = coalesce(title, $4), updated_at = $5
           where workspace_id = $1 and id = $2 and version = $3""",
        tx.workspace,
        document,
        version,
        title,
        tx.now,
    )
    return True


async def mark_failed(tx: Transaction, document: UUID, version: int, error: str) -> None:
    """The version cannot be parsed; one that was deleted, cancelled or parsed meanwhile stays so."""
    await tx.execute(
        """update document_version set state = 'failed', error = $4
           where workspace_id = $1 and document_id = $2 and version = $3 and state in ('accepted', 'failed')""",
        tx.workspace,
        document,
        version,
        error,
    )


async def mark_deleted(tx: Transaction, document: UUID) -> None:
    """The document is gone for every reader."""
    await tx.execute(
        """update document set deleted_at = $3, updated_at = $3, name = null, title = null, state = 'deleted'
           where workspace_id = $1 and id = $2""",
        tx.workspace,
        document,
        tx.now,
    )
    await tx.execute(
        "update document_version set state = 'deleted', title = null where workspace_id = $1 and document_id = $2",
        tx.workspace,
        document,
    )


async def objects_of(tx: Transaction, document: UUID) -> list[str]:
    """The keys of chunks and texts that belong to the document alone."""
    rows = await tx.fetch(
        "select chunks_object, text_object from document_version where workspace_id = $1 and document_id = $2",
        tx.workspace,
        document,
    )
    return [key for row in rows for key in (row["chunks_object"], row["text_object"]) if key is not None]


async def contents_of(tx: Transaction, document: UUID) -> list[str]:
    """The hashes of the document's files, sorted."""
    rows = await tx.fetch(
        """select distinct sha256 from document_version
           where workspace_id = $1 and document_id = $2 order by sha256""",
        tx.workspace,
        document,
    )
    return [row["sha256"] for row in rows]


async def given_title(tx: Transaction, place: tuple[UUID, int]) -> str | None:
    """The title that this version was uploaded with."""
    title: str | None = await tx.fetchval(
        "select title from document_version where workspace_id = $1 and document_id = $2 and version = $3",
        tx.workspace,
        *place,
    )
    return title


async def forget_objects(tx: Transaction, document: UUID) -> int:
    """The chunks and texts of the document are gone: the references to them go, too; of how many versions."""
    tag = await tx.execute(
        """update document_version set chunks_object = null, text_object = null
           where workspace_id = $1 and document_id = $2 and text_object is not null""",
        tx.workspace,
        document,
    )
    return rows_of(tag)


async def is_living(tx: Transaction, document: UUID) -> bool:
    """Whether the document is there and not deleted."""
    sql = "select from document where workspace_id = $1 and id = $2 and deleted_at is null"
    return await tx.fetchrow(sql, tx.workspace, document) is not None


async def version_of_operation(tx: Transaction, operation: UUID) -> tuple[UUID, int] | None:
    """The document version that this operation accepted."""
    row = await tx.fetchrow(
        "select document_id, version from document_version where workspace_id = $1 and operation_id = $2",
        tx.workspace,
        operation,
    )
    return None if row is None else (row["document_id"], row["version"])


async def is_parsed(tx: Transaction, document: UUID, version: int) -> bool:
    """Whether this version has its text, and is not deleted."""
    sql = "select from document_version where workspace_id = $1 and document_id = $2 and version = $3"
    return await tx.fetchrow(f"{sql} and state = 'parsed'", tx.workspace, document, version) is not None


async def mark_cancelled(tx: Transaction, document: UUID, version: int) -> None:
    """The version will not be parsed."""
    await tx.execute(
        """update document_version set state = 'cancelled'
           where workspace_id = $1 and document_id = $2 and version = $3 and state in ('accepted', 'failed')""",
        tx.workspace,
        document,
        version,
    )


def _document(row: asyncpg.Record) -> Document:
    return Document(**{name: row[name] for name in Document.model_fields})
