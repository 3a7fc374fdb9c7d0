"""What the whole core needs."""

from alembic import op

from kgl_servicekit.database.core_migration import complete_core

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Releases go forward only."""
    complete_core(op)
