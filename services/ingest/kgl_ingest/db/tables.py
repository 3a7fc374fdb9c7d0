"""The tables of the ingest service, all bound to workspaces by row-level security."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, Computed, DateTime, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import AutoString, Field, SQLModel

from kgl_servicekit.database.core_schema import DERIVED, SOURCE, service_registry
from kgl_servicekit.drift.table import drift_table


class Base(SQLModel, registry=service_registry()):
    """The tables of ingest."""


_BLOB_KEY = "'ingest/' || workspace_id::text || '/' || sha256 || '/' || generation::text"


class BlobRow(Base, table=True):
    """A stored file by its content: `live`, or `deleting` while the collector removes it."""

    __tablename__ = "blob"
    __table_args__ = (
        Index("uq_blob_key", "workspace_id", "key", unique=True),
        Index("ix_blob_collectable", "created_at", "workspace_id"),
        SOURCE,
    )

    workspace_id: UUID = Field(primary_key=True)
    sha256: str = Field(primary_key=True)
    generation: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    state: str
    size: int = Field(sa_type=BigInteger)
    created_at: datetime = Field(sa_type=DateTime(timezone=True))
    key: str = Field(sa_column=Column(AutoString, Computed(_BLOB_KEY, persisted=True), nullable=False))


class DocumentRow(Base, table=True):
    """A document; its content is in its versions."""

    __tablename__ = "document"
    __table_args__ = (Index("ix_document_listed", "workspace_id", "created_at", "id"), SOURCE)

    workspace_id: UUID = Field(primary_key=True)
    id: UUID = Field(primary_key=True)
    name: str | None
    title: str | None
    state: str
    version: int
    created_by: str
    created_at: datetime = Field(sa_type=DateTime(timezone=True))
    updated_at: datetime = Field(sa_type=DateTime(timezone=True))
    deleted_at: datetime | None = Field(sa_type=DateTime(timezone=True))


class VersionRow(Base, table=True):
    """One content of a document, and what parsing made of it."""

    __tablename__ = "document_version"
    __table_args__ = (
        Index("ix_document_version_content", "workspace_id", "sha256", postgresql_where=text("state <> 'deleted'")),
        Index("ix_document_version_operation_id", "workspace_id", "operation_id"),
        SOURCE,
    )

    workspace_id: UUID = Field(primary_key=True)
    document_id: UUID = Field(primary_key=True)
    version: int = Field(primary_key=True)
    state: str
    media_type: str
    charset: str | None
    size: int = Field(sa_type=BigInteger)
    sha256: str
    object_key: str
    chunks_object: str | None
    chunks_sha256: str | None
    text_object: str | None
    chunk_count: int | None
    text_length: int | None
    error: str | None
    operation_id: UUID
    created_at: datetime = Field(sa_type=DateTime(timezone=True))
    modules: list[dict[str, Any]] | None = Field(sa_column=Column(JSONB(none_as_null=True)))
    title: str | None


class OperationRow(Base, table=True):
    """A receipt of any service."""

    __tablename__ = "operation"
    __table_args__ = (
        Index("ix_operation_listed", "workspace_id", "created_at", "id"),
        Index("ix_operation_created", "created_at", "id"),
        Index("ix_operation_state", "workspace_id", "state", "created_at", "id"),
        Index("ix_operation_subject", "workspace_id", "subject"),
        Index("ix_operation_running", "created_at", postgresql_where=text("state = 'running'")),
        DERIVED,
    )

    workspace_id: UUID = Field(primary_key=True)
    id: UUID = Field(primary_key=True)
    kind: str
    subject: str
    subject_type: str = Field(sa_column_kwargs={"server_default": "document"})
    state: str
    created_at: datetime = Field(sa_type=DateTime(timezone=True))
    ended_at: datetime | None = Field(sa_type=DateTime(timezone=True))


class StageRow(Base, table=True):
    """One stage of a receipt; reports may come before the operation itself (`planned` is false then)."""

    __tablename__ = "operation_stage"
    __table_args__ = (
        Index("ix_operation_stage_open", "deadline_at", postgresql_where=text("planned and ended_at is null")),
        DERIVED,
    )

    workspace_id: UUID = Field(primary_key=True)
    operation_id: UUID = Field(primary_key=True)
    name: str = Field(primary_key=True)
    ordinal: int
    planned: bool
    required: bool
    place: int = Field(sa_type=BigInteger)
    state: str
    run: int
    attempt: int
    holder: str | None
    error: str | None
    next_retry_at: datetime | None = Field(sa_type=DateTime(timezone=True))
    started_at: datetime | None = Field(sa_type=DateTime(timezone=True))
    ended_at: datetime | None = Field(sa_type=DateTime(timezone=True))
    deadline_at: datetime | None = Field(sa_type=DateTime(timezone=True))
    removed: dict[str, int] = Field(sa_column=Column(JSONB, nullable=False, server_default=text("'{}'")))
    kept_until: dict[str, str] = Field(sa_column=Column(JSONB, nullable=False, server_default=text("'{}'")))


class DeadLetterRow(Base, table=True):
    """An event that a subscription of any service could not handle; of those without a workspace it is the instance's.

    The data go when it is settled.
    """

    __tablename__ = "dead_letter"
    __table_args__ = (
        Index("uq_dead_letter_id", "id", unique=True),
        Index("ix_dead_letter_listed", "dead_at", "id"),
        Index("ix_dead_letter_operation_id", "operation_id", postgresql_where=text("operation_id is not null")),
        DERIVED,
    )

    workspace_id: UUID = Field(primary_key=True)
    id: UUID = Field(primary_key=True)
    service: str
    subscription: str
    topic: str
    partition: int
    offset: int = Field(sa_type=BigInteger)
    key: str
    event_id: UUID | None
    type: str | None
    sequence: int | None = Field(sa_type=BigInteger)
    operation_id: UUID | None
    state: str
    reason: str
    error: str | None
    attempts: int
    headers: dict[str, str] = Field(sa_type=JSONB)
    value: bytes | None
    size: int
    corrected: bytes | None
    waiting: int
    next_waiting: list[dict[str, Any]] = Field(sa_type=JSONB)
    note: str | None
    decision: str | None
    decision_operation: UUID | None
    decided_at: datetime | None = Field(sa_type=DateTime(timezone=True))
    first_at: datetime = Field(sa_type=DateTime(timezone=True))
    dead_at: datetime = Field(sa_type=DateTime(timezone=True))
    moved_at: datetime = Field(sa_type=DateTime(timezone=True))


METADATA = Base.metadata
drift_table(METADATA)
UNSCOPED: frozenset[str] = frozenset({"drift_check"})
NOT_REBUILT: Mapping[str, str] = {
    "operation": "told once on kgl.operations; a refill tells again what the outboxes keep, older ones have ended",
    "operation_stage": "as operation",
    "dead_letter": "told when a letter is made or moves; services tell again of letters that are not in the list",
}
"""Derived tables without a rebuild, and why."""
