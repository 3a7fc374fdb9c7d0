"""The tables of the content service, all bound to workspaces by row-level security."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, DateTime, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from kgl_servicekit.database.core_schema import DERIVED, SOURCE, service_registry
from kgl_servicekit.database.last_results import LastResult
from kgl_servicekit.drift.table import drift_table


class Base(SQLModel, registry=service_registry()):
    """The tables of content."""


class ItemRow(Base, table=True):
    """An item; its words are in its versions."""

    __tablename__ = "item"
    __table_args__ = (
        Index("ix_item_listed", "workspace_id", "created_at", "id"),
        Index(
            "uq_item_generated",
            "workspace_id",
            "document_id",
            "module",
            "kind",
            unique=True,
            postgresql_where=text("module is not null"),
        ),
        SOURCE,
    )

    workspace_id: UUID = Field(primary_key=True)
    id: UUID = Field(primary_key=True)
    kind: str
    state: str
    version: int
    published_version: int | None
    document_id: UUID | None
    module: str | None
    created_at: datetime = Field(sa_type=DateTime(timezone=True))
    updated_at: datetime = Field(sa_type=DateTime(timezone=True))
    published_at: datetime | None = Field(sa_type=DateTime(timezone=True))
    first_published_at: datetime | None = Field(sa_type=DateTime(timezone=True))


class ItemVersionRow(Base, table=True):
    """The words of an item, and what a reviewer decided about them."""

    __tablename__ = "item_version"
    __table_args__ = SOURCE

    workspace_id: UUID = Field(primary_key=True)
    item_id: UUID = Field(primary_key=True)
    version: int = Field(primary_key=True)
    title: str
    body: str
    sources: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    author: str
    created_at: datetime = Field(sa_type=DateTime(timezone=True))
    decision: str | None
    reviewer: str | None
    reason: str | None
    decided_at: datetime | None = Field(sa_type=DateTime(timezone=True))


class DocumentRow(Base, table=True):
    """What is known of a document: the newest version heard of, or that it is gone."""

    __tablename__ = "document"
    __table_args__ = DERIVED

    workspace_id: UUID = Field(primary_key=True)
    document_id: UUID = Field(primary_key=True)
    version: int
    deleted_at: datetime | None = Field(sa_type=DateTime(timezone=True))


class LastResultRow(LastResult, Base, table=True):
    """The last result that was heard of a module about a document."""

    __tablename__ = "last_result"
    __table_args__ = DERIVED


METADATA = Base.metadata
drift_table(METADATA)
UNSCOPED: frozenset[str] = frozenset({"drift_check"})
NOT_REBUILT: Mapping[str, str] = {
    "document": "what was heard of, in the order of events, which no source tells anew",
    "last_result": "which result was heard last: order of events, as above",
}
"""Derived tables without a rebuild, and why."""
