"""The tables of the graph service, all bound to workspaces by row-level security."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, Computed, DateTime, Index, String
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR
from sqlalchemy.types import UserDefinedType
from sqlmodel import Field, SQLModel

from kgl_servicekit.database.core_schema import DERIVED, SOURCE, service_registry
from kgl_servicekit.database.last_results import LastResult
from kgl_servicekit.database.shadow_tables import rebuild_table
from kgl_servicekit.drift.table import drift_table

DIMENSIONS = 256
PGVECTOR = "pgvector"  # the branch of migrations that makes the table of vectors
SEARCH = (
    "setweight(to_tsvector('english'::regconfig, title::text), 'A') || "
    "setweight(to_tsvector('english'::regconfig, text::text), 'B')"
)


class Vector(UserDefinedType[list[float]]):
    """pgvector's column type."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return f"vector({DIMENSIONS})"


class Base(SQLModel, registry=service_registry()):
    """The tables of graph."""


class DocumentRow(Base, table=True):
    """What is known of a document: the newest version heard of, the newest parsed one, or that it is gone."""

    __tablename__ = "document"
    __table_args__ = DERIVED

    workspace_id: UUID = Field(primary_key=True)
    document_id: UUID = Field(primary_key=True)
    version: int
    parsed_version: int | None
    deleted_at: datetime | None = Field(sa_type=DateTime(timezone=True))


class IndexedDocumentRow(Base, table=True):
    """Which version of a document can be found."""

    __tablename__ = "indexed_document"
    __table_args__ = DERIVED

    workspace_id: UUID = Field(primary_key=True)
    document_id: UUID = Field(primary_key=True)
    version: int


class ChunkRow(Base, table=True):
    """A chunk of an indexed version."""

    __tablename__ = "chunk"
    __table_args__ = (
        Index("ix_chunk_search", "search", postgresql_using="gin"),
        Index("ix_chunk_document", "workspace_id", "document_id"),
        DERIVED,
    )

    workspace_id: UUID = Field(primary_key=True)
    id: UUID = Field(primary_key=True)
    document_id: UUID
    version: int
    ordinal: int
    start: int
    end: int
    title: str
    text: str
    search: str = Field(sa_column=Column(TSVECTOR, Computed(SEARCH, persisted=True)))


class ChunkVectorRow(Base, table=True):
    """The embedding of a chunk; only where the pgvector adapter keeps them."""

    __tablename__ = "chunk_vector"
    __table_args__ = (
        Index("ix_chunk_vector_document", "workspace_id", "document_id"),
        Index(
            "ix_chunk_vector_embedding",
            "embedding",
            postgresql_using="hnsw",
            postgresql_ops={"embedding": "vector_cosine_ops"},
        ),
        DERIVED | {"info": DERIVED["info"] | {"branch": PGVECTOR}},
    )

    workspace_id: UUID = Field(primary_key=True)
    chunk_id: UUID = Field(primary_key=True)
    document_id: UUID
    version: int
    embedding: list[float] = Field(sa_column=Column(Vector, nullable=False))


class EntityRow(Base, table=True):
    """An entity of a workspace; its id follows from its name and type."""

    __tablename__ = "entity"
    __table_args__ = (Index("ix_entity_folded", "workspace_id", "folded", "id"), DERIVED)

    workspace_id: UUID = Field(primary_key=True)
    id: UUID = Field(primary_key=True)
    name: str
    type: str
    folded: str
    aliases: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    created_at: datetime = Field(sa_type=DateTime(timezone=True))


class EntitySourceRow(Base, table=True):
    """How a source names an entity: a document's module, or an actor by the API; without one, an entity goes."""

    __tablename__ = "entity_source"
    __table_args__ = (Index("ix_entity_source_document", "workspace_id", "document_id", "module"), SOURCE)

    workspace_id: UUID = Field(primary_key=True)
    entity_id: UUID = Field(primary_key=True)
    source: str = Field(primary_key=True)
    document_id: UUID | None
    module: str | None
    name: str
    aliases: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))


class MentionRow(Base, table=True):
    """A place in a document version where a module saw an entity."""

    __tablename__ = "mention"
    __table_args__ = (Index("ix_mention_document", "workspace_id", "document_id", "module"), DERIVED)

    workspace_id: UUID = Field(primary_key=True)
    entity_id: UUID = Field(primary_key=True)
    chunk_id: UUID = Field(primary_key=True)
    module: str = Field(primary_key=True)
    start: int = Field(primary_key=True)
    end: int = Field(primary_key=True)
    document_id: UUID
    version: int


class RelationRow(Base, table=True):
    """Two related entities; the id follows from both and the predicate."""

    __tablename__ = "relation"
    __table_args__ = (
        Index("ix_relation_subject", "workspace_id", "subject_id"),
        Index("ix_relation_object", "workspace_id", "object_id"),
        DERIVED,
    )

    workspace_id: UUID = Field(primary_key=True)
    id: UUID = Field(primary_key=True)
    subject_id: UUID
    predicate: str
    object_id: UUID
    created_at: datetime = Field(sa_type=DateTime(timezone=True))


class RelationSourceRow(Base, table=True):
    """Who says that a relation holds, and where: a document's module, or an actor by the API."""

    __tablename__ = "relation_source"
    __table_args__ = (Index("ix_relation_source_document", "workspace_id", "document_id", "module"), SOURCE)

    workspace_id: UUID = Field(primary_key=True)
    relation_id: UUID = Field(primary_key=True)
    source: str = Field(primary_key=True)
    document_id: UUID | None
    version: int | None
    module: str | None
    evidence: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))


class LastResultRow(LastResult, Base, table=True):
    """The last result that was heard of a module about a document."""

    __tablename__ = "last_result"
    __table_args__ = DERIVED


class AiRequestRow(Base, table=True):
    """One request to a module for one document version."""

    __tablename__ = "ai_request"
    __table_args__ = (
        Index("ix_ai_request_document", "workspace_id", "document_id"),
        Index("ix_ai_request_open", "state", "module", "created_at"),
        SOURCE,
    )

    workspace_id: UUID = Field(primary_key=True)
    id: UUID = Field(primary_key=True)
    document_id: UUID
    version: int
    module: str
    capability: str
    state: str
    mode: str
    token: int = Field(sa_type=BigInteger)
    holder: str | None
    attempt: int
    failures: int
    lease_until: datetime | None = Field(sa_type=DateTime(timezone=True))
    deadline_at: datetime = Field(sa_type=DateTime(timezone=True))
    chunks_url: str
    result_object: str | None
    result_sha256: str | None
    error: str | None
    operation_id: UUID | None
    created_at: datetime = Field(sa_type=DateTime(timezone=True))
    ended_at: datetime | None = Field(sa_type=DateTime(timezone=True))


METADATA = Base.metadata
drift_table(METADATA)
rebuild_table(METADATA)
UNSCOPED: frozenset[str] = frozenset({"drift_check", "rebuild"})
NOT_REBUILT: Mapping[str, str] = {
    "document": "what was heard of, in the order of events; no source tells that anew, and `kgl drift` compares it",
    "last_result": "which result was heard last: order of events, as above",
}
"""Derived tables without a rebuild, and why."""
