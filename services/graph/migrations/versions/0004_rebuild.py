"""The search index can be built anew beside the present one."""

from alembic import op

from kgl_servicekit.database.shadow_tables import allow_rebuild, create_rebuilds

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Releases go forward only."""
    create_rebuilds(op)
    allow_rebuild(op, "search", ("chunk", "chunk_vector", "indexed_document"))
