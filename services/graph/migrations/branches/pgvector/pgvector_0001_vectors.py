"""The table of vectors, where pgvector keeps them; older databases have it from their first migration."""

from alembic import op
from sqlalchemy import text

from kgl_servicekit.database.core_migration import protect
from kgl_servicekit.settings import NotConfigured

revision = "pgvector_0001"
down_revision = None

_TABLES = """
create table chunk_vector (
    workspace_id uuid not null,
    chunk_id uuid not null,
    document_id uuid not null,
    version integer not null,
    embedding vector(256) not null,
    constraint pk_chunk_vector primary key (workspace_id, chunk_id)
);
create index ix_chunk_vector_document on chunk_vector (workspace_id, document_id);
create index ix_chunk_vector_embedding on chunk_vector using hnsw (embedding vector_cosine_ops)
"""


def upgrade() -> None:
    """Releases go forward only. Raises NotConfigured where the extension is not there: the owner may not make it."""
    connection = op.get_bind()
    if connection.scalar(text("select to_regclass('chunk_vector')")) is not None:
        return
    if connection.scalar(text("select to_regtype('vector')")) is None:
        raise NotConfigured(
            "KGL_VECTORS=pgvector needs the extension vector in graph's database: "
            "let a superuser run `create extension vector` there, or set KGL_VECTORS=weaviate"
        )
    for statement in _TABLES.split(";\n"):
        op.execute(statement)
    protect(op, "chunk_vector")
