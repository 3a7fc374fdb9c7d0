"""The tables of the publish service, all bound to workspaces by row-level security."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, Identity, Index, LargeBinary, String, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel

from kgl_servicekit.database.core_schema import DERIVED, SOURCE, service_registry
from kgl_servicekit.database.shadow_tables import rebuild_table
from kgl_servicekit.drift.table import drift_table


class Base(SQLModel, registry=service_registry()):
    """The tables of publish."""


class EndpointRow(Base, table=True):
    """Where a workspace wants its webhooks."""

    __tablename__ = "endpoint"
    __table_args__ = SOURCE

    workspace_id: UUID = Field(primary_key=True)
    id: UUID = Field(primary_key=True)
    url: str
    description: str
    event_types: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    secret: str
    state: str
    created_at: datetime = Field(sa_type=DateTime(timezone=True))


class DeliveryRow(Base, table=True):
    """One event for one endpoint; its body is frozen."""

    __tablename__ = "delivery"
    __table_args__ = (Index("ix_delivery_listed", "workspace_id", "created_at", "id"), SOURCE)

    workspace_id: UUID = Field(primary_key=True)
    id: UUID = Field(primary_key=True)
    endpoint_id: UUID
    event_id: UUID
    event_type: str
    webhook_id: str
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    state: str
    attempts: int
    status: int | None
    error: str | None
    next_at: datetime | None = Field(sa_type=DateTime(timezone=True))
    created_at: datetime = Field(sa_type=DateTime(timezone=True))
    ended_at: datetime | None = Field(sa_type=DateTime(timezone=True))
    operation_id: UUID | None


class DeliveryAttemptRow(Base, table=True):
    """What came of one attempt."""

    __tablename__ = "delivery_attempt"
    __table_args__ = SOURCE

    workspace_id: UUID = Field(primary_key=True)
    delivery_id: UUID = Field(primary_key=True)
    number: int = Field(primary_key=True)
    at: datetime = Field(sa_type=DateTime(timezone=True))
    outcome: str
    status: int | None
    milliseconds: int
    detail: str | None


class PublishedItemRow(Base, table=True):
    """A published item, as feeds show it."""

    __tablename__ = "published_item"
    __table_args__ = (Index("ix_published_item_listed", "workspace_id", "published_at", "item_id"), DERIVED)

    workspace_id: UUID = Field(primary_key=True)
    item_id: UUID = Field(primary_key=True)
    version: int
    title: str
    excerpt: str
    content_url: str
    first_published_at: datetime = Field(sa_type=DateTime(timezone=True))
    published_at: datetime = Field(sa_type=DateTime(timezone=True))


class LiveEventRow(Base, table=True):
    """What happened in a workspace lately, in order. `topic` is null for what is not public."""

    __tablename__ = "live_event"
    __table_args__ = (Index("ix_live_event_appended_at", "appended_at"), DERIVED)

    workspace_id: UUID = Field(primary_key=True)
    number: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    event_id: UUID
    type: str
    data: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    at: datetime = Field(sa_type=DateTime(timezone=True))
    topic: str | None
    key: str | None
    source: str | None
    sequence: int | None = Field(sa_type=BigInteger)
    source_epoch: int | None = Field(sa_type=BigInteger)
    operation_id: UUID | None
    causation_id: UUID | None
    actor_id: str | None
    traceparent: str | None
    appended_at: datetime = Field(
        sa_column=Column(DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()"))
    )


class EventConsumerRow(Base, table=True):
    """A named reader of the live log, and how far it is. `token` belongs to its last lease."""

    __tablename__ = "event_consumer"
    __table_args__ = SOURCE

    workspace_id: UUID = Field(primary_key=True)
    name: str = Field(primary_key=True)
    topics: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    types: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    position: int = Field(sa_type=BigInteger)
    pulled_to: int = Field(sa_type=BigInteger)
    token: int = Field(sa_type=BigInteger)
    leased_until: datetime | None = Field(sa_type=DateTime(timezone=True))
    lost: int = Field(sa_type=BigInteger)
    created_at: datetime = Field(sa_type=DateTime(timezone=True))


class LiveTicketRow(Base, table=True):
    """A one-time right to open a live connection; only its hash is kept."""

    __tablename__ = "live_ticket"
    __table_args__ = SOURCE

    workspace_id: UUID = Field(primary_key=True)
    sha256: str = Field(primary_key=True)
    principal: str
    expires_at: datetime = Field(sa_type=DateTime(timezone=True))
    session_ends_at: datetime | None = Field(sa_type=DateTime(timezone=True))


METADATA = Base.metadata
drift_table(METADATA)
rebuild_table(METADATA)
UNSCOPED: frozenset[str] = frozenset({"drift_check", "rebuild"})
NOT_REBUILT: Mapping[str, str] = {
    "live_event": "a window of some days whose numbers its readers keep: an event anew would be another one",
}
"""Derived tables without a rebuild, and why."""
