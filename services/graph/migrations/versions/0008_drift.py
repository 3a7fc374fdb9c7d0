"""What was found of drift, and the way from one workspace to the next."""

from alembic import op

from kgl_servicekit.drift.table import create_drift

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Releases go forward only."""
    create_drift(
        op, "document", "indexed_document", "chunk", "entity", "entity_source", "mention", "relation", "relation_source"
    )
