"""The core tables, and those of items."""

from alembic import op

from kgl_servicekit.database.core_migration import create_core, protect

revision = "0001"
down_revision = None

_TABLES = """
create table item (
    workspace_id uuid not null,
    id uuid not null,
    kind varchar not null,
    state varchar not null,
    version integer not null,
    published_version integer,
    document_id uuid,
    module varchar,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    published_at timestamptz,
    constraint pk_item primary key (workspace_id, id)
);
create index ix_item_listed on item (workspace_id, created_at, id);
create unique index uq_item_generated on item (workspace_id, document_id, module, kind) where module is not null;
create table item_version (
    workspace_id uuid not null,
    item_id uuid not null,
    version integer not null,
    title varchar not null,
    body varchar not null,
    sources jsonb not null,
    author varchar not null,
    created_at timestamptz not null,
    decision varchar,
    reviewer varchar,
    reason varchar,
    decided_at timestamptz,
    constraint pk_item_version primary key (workspace_id, item_id, version)
);
create table document (
    workspace_id uuid not null,
    document_id uuid not null,
    version integer not null,
    deleted_at timestamptz,
    constraint pk_document primary key (workspace_id, document_id)
);
"""


def upgrade() -> None:
    """Releases go forward only."""
    create_core(op)
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    protect(op, "item", "item_version", "document")
