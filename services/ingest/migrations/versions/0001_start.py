"""The core tables, and those of documents and receipts."""

from alembic import op

from kgl_servicekit.database.core_migration import create_core, protect

revision = "0001"
down_revision = None

_TABLES = """
create table blob (
    workspace_id uuid not null,
    sha256 varchar not null,
    generation integer not null,
    state varchar not null,
    size bigint not null,
    created_at timestamptz not null,
    constraint pk_blob primary key (workspace_id, sha256, generation)
);
create table document (
    workspace_id uuid not null,
    id uuid not null,
    name varchar,
    title varchar,
    state varchar not null,
    version integer not null,
    created_by varchar not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz,
    constraint pk_document primary key (workspace_id, id)
);
create index ix_document_listed on document (workspace_id, created_at, id);
create table document_version (
    workspace_id uuid not null,
    document_id uuid not null,
    version integer not null,
    state varchar not null,
    media_type varchar not null,
    charset varchar,
    size bigint not null,
    sha256 varchar not null,
    object_key varchar not null,
    chunks_object varchar,
    chunks_sha256 varchar,
    text_object varchar,
    chunk_count integer,
    text_length integer,
    error varchar,
    operation_id uuid not null,
    created_at timestamptz not null,
    constraint pk_document_version primary key (workspace_id, document_id, version)
);
create index ix_document_version_content on document_version (workspace_id, sha256) where state <> 'deleted';
create table operation (
    workspace_id uuid not null,
    id uuid not null,
    kind varchar not null,
    subject varchar not null,
    state varchar not null,
    created_at timestamptz not null,
    ended_at timestamptz,
    constraint pk_operation primary key (workspace_id, id)
);
create index ix_operation_listed on operation (workspace_id, created_at, id);
create table operation_stage (
    workspace_id uuid not null,
    operation_id uuid not null,
    name varchar not null,
    ordinal integer not null,
    planned boolean not null,
    required boolean not null,
    place bigint not null,
    state varchar not null,
    run integer not null,
    attempt integer not null,
    holder varchar,
    error varchar,
    next_retry_at timestamptz,
    started_at timestamptz,
    ended_at timestamptz,
    deadline_at timestamptz,
    constraint pk_operation_stage primary key (workspace_id, operation_id, name)
);
"""


def upgrade() -> None:
    """Releases go forward only."""
    create_core(op)
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    protect(op, "blob", "document", "document_version", "operation", "operation_stage")
