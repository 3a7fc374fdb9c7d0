"""The tables of the reliability core, the same in the database of every service.

They carry no row-level security: they are read by the named statements of this library alone.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import registry

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

CORE_TABLES = (
    "source",
    "outbox_key",
    "outbox_log",
    "outbox_pending",
    "relay_shard",
    "relay_position",
    "relay_refused",
    "consumer_position",
    "key_position",
    "inbox",
    "held_key",
    "held_event",
    "correction",
    "job",
    "job_weight",
    "idempotency_key",
    "identity_replica",
)


CORE_NOT_REBUILT = {"identity_replica": "kgl.identity is compacted: a subscription without positions reads it all anew"}
"""Derived core tables without a rebuild, and why."""

SOURCE: dict[str, Any] = {"info": {"kind": "source"}}
DERIVED: dict[str, Any] = {"info": {"kind": "derived"}}


def service_registry() -> registry:
    """A registry with the naming convention and the core tables, one for each service.

    Five services may live in one process, so none may use the global metadata of SQLModel. Every table says what
    it is by SOURCE or DERIVED in its arguments: a derived one can be made anew from the events of its source.
    """
    metadata = MetaData(naming_convention=NAMING)
    _outbox(metadata)
    _inbox(metadata)
    _jobs(metadata)
    _access(metadata)
    for table in metadata.tables.values():
        table.info["kind"] = "derived" if table.name == "identity_replica" else "source"
    return registry(metadata=metadata)


def _key(name: str, kind: Any = Text) -> Column[Any]:
    return Column(name, kind, primary_key=True)


def _must(name: str, kind: Any = Text, default: str | None = None) -> Column[Any]:
    return Column(name, kind, nullable=False, server_default=None if default is None else text(default))


def _may(name: str, kind: Any = Text) -> Column[Any]:
    return Column(name, kind, nullable=True)


def _time(name: str, *, optional: bool = False, now: bool = False) -> Column[datetime]:
    default = text("now()") if now else None
    return Column(name, DateTime(timezone=True), nullable=optional, server_default=default)


def _outbox(metadata: MetaData) -> None:
    Table("source", metadata, _key("id", SmallInteger), _must("epoch", BigInteger, "1"))
    Table("outbox_key", metadata, _key("topic"), _key("key"), _must("last", BigInteger))
    Table(
        "outbox_log",
        metadata,
        Column("logged_at", DateTime(timezone=True), primary_key=True, server_default=text("now()")),
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        _must("event_id", Uuid),
        _must("topic"),
        _must("key"),
        _must("type"),
        _must("sequence", BigInteger),
        _must("epoch", BigInteger),
        _must("occurred_at", DateTime(timezone=True)),
        _may("workspace_id", Uuid),
        _may("operation_id", Uuid),
        _may("causation_id", Uuid),
        _may("actor"),
        _may("traceparent"),
        _must("data", LargeBinary),
        postgresql_partition_by="RANGE (logged_at)",
    )
    Table(
        "outbox_pending",
        metadata,
        Column("id", BigInteger, primary_key=True, autoincrement=False),
        _must("shard", SmallInteger),
        _must("logged_at", DateTime(timezone=True)),
        Index("ix_outbox_pending_shard_id", "shard", "id"),
    )
    Table(
        "relay_shard",
        metadata,
        Column("shard", SmallInteger, primary_key=True, autoincrement=False),
        _may("owner"),
        _must("epoch", BigInteger, "0"),
        _time("expires_at", now=True),
    )
    Table(
        "relay_position",
        metadata,
        _key("topic"),
        Column("partition", Integer, primary_key=True, autoincrement=False),
        _must("incarnation"),
        _must("offset", BigInteger),
    )
    Table(
        "relay_refused",
        metadata,
        _key("topic"),
        _key("key"),
        _must("id", BigInteger),
        _must("error"),
        _time("at", now=True),
    )


def _inbox(metadata: MetaData) -> None:
    Table(
        "consumer_position",
        metadata,
        _key("subscription"),
        _key("topic"),
        _key("incarnation"),
        Column("partition", Integer, primary_key=True, autoincrement=False),
        _must("next", BigInteger),
        _must("from_start", Boolean),
        _must("starts", Integer, "0"),
        _may("started_at", BigInteger),
        _may("in_flight", BigInteger),
        _must("deaths", Integer, "0"),
    )
    Table(
        "key_position",
        metadata,
        _key("subscription"),
        _key("topic"),
        _key("key"),
        _key("source"),
        _must("epoch", BigInteger),
        _must("last", BigInteger),
    )
    Table(
        "inbox",
        metadata,
        _key("subscription"),
        _key("event_id", Uuid),
        Column("occurred_at", DateTime(timezone=True), primary_key=True),
        postgresql_partition_by="RANGE (occurred_at)",
    )
    Table("held_key", metadata, _key("subscription"), _key("topic"), _key("key"), _time("held_at", now=True))
    Table(
        "held_event",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        _must("subscription"),
        _must("topic"),
        _must("key"),
        _must("partition", Integer),
        _must("offset", BigInteger),
        _must("incarnation", default="''"),
        _may("sequence", BigInteger),
        _may("epoch", BigInteger),
        _may("event_id", Uuid),
        _may("type"),
        _may("workspace_id", Uuid),
        _may("operation_id", Uuid),
        _must("state"),
        _must("reason"),
        _must("attempts", Integer, "0"),
        _time("next_at", now=True),
        _may("error"),
        _must("headers", JSONB),
        _must("value", LargeBinary),
        _may("corrected", LargeBinary),
        _time("first_at", now=True),
        _time("last_at", now=True),
        _may("letter", Uuid),
        _may("told"),
        _may("redrive_operation", Uuid),
        _may("redrive_workspace", Uuid),
        _must("run", Integer, "1"),
        Index("ix_held_event_queue", "subscription", "topic", "key", "epoch", "sequence", "id"),
        Index("uq_held_event_record", "subscription", "topic", "incarnation", "partition", "offset", unique=True),
        Index("ix_held_event_due", "next_at", postgresql_where=text("state <> 'dead'")),
        Index("ix_held_event_letter", "letter", postgresql_where=text("letter is not null")),
    )
    Table(
        "correction",
        metadata,
        _key("subscription"),
        _key("event_id", Uuid),
        _must("value", LargeBinary),
        _must("actor"),
        _time("at", now=True),
    )


_IN_LINE = "state = 'queued' and turn is not null"


def _jobs(metadata: MetaData) -> None:
    Table(
        "job",
        metadata,
        _key("id", Uuid),
        _must("kind"),
        _may("key"),
        _must("job_class"),
        _must("workspace_id", Uuid),
        _may("operation_id", Uuid),
        _may("stage"),
        _must("data", JSONB),
        _must("state", default="'queued'"),
        _must("run", Integer, "1"),
        _must("attempt", Integer, "0"),
        _must("failures", Integer, "0"),
        _must("deaths", Integer, "0"),
        _time("run_at", now=True),
        _may("turn", Double),
        _must("token", BigInteger, "0"),
        _may("holder"),
        _time("lease_until", optional=True),
        _may("error_code"),
        _may("error"),
        _may("actor"),
        _may("traceparent"),
        _time("created_at", now=True),
        _time("ended_at", optional=True),
        Index("uq_job_kind_key", "kind", "key", unique=True, postgresql_where=text("key is not null")),
        Index("ix_job_due", "run_at", "id", postgresql_where=text("state = 'queued' and turn is null")),
        Index("ix_job_ready", "kind", "job_class", "turn", "id", postgresql_where=text(f"{_IN_LINE} and deaths < 2")),
        Index("ix_job_flow", "kind", "job_class", "workspace_id", "turn", postgresql_where=text(_IN_LINE)),
        Index("ix_job_suspect", "run_at", "id", postgresql_where=text("state = 'queued' and deaths >= 2")),
        Index("ix_job_lease", "lease_until", postgresql_where=text("state = 'running'")),
        Index("ix_job_operation_id", "operation_id", postgresql_where=text("operation_id is not null")),
    )
    Table("job_weight", metadata, _key("workspace_id", Uuid), _must("weight", Double))


def _access(metadata: MetaData) -> None:
    Table(
        "idempotency_key",
        metadata,
        _key("scope_hash", LargeBinary),
        _may("workspace_id", Uuid),
        _must("body_hash", LargeBinary),
        _must("status", Integer),
        _must("headers", JSONB),
        _must("body", LargeBinary),
        _time("created_at", now=True),
        Index("ix_idempotency_key_created_at", "created_at"),
    )
    Table(
        "identity_replica",
        metadata,
        _key("key_id"),
        _must("type"),
        _must("sequence", BigInteger),
        _may("workspace_id", Uuid),
        _must("state", JSONB),
        _time("at", now=True),
        Index("ix_identity_replica_workspace_id", "workspace_id"),
    )
