"""Vectors may be kept elsewhere: a rebuild leaves the table of the branch `pgvector` out where it is not there."""

from alembic import op

from kgl_servicekit.database.shadow_tables import allow_rebuild

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Releases go forward only."""
    allow_rebuild(op, "search", ("chunk", "chunk_vector", "indexed_document"))
