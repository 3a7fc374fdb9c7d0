"""What is told of dead letters."""

from alembic import op

from kgl_servicekit.database.core_migration import list_dead_letters

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Releases go forward only."""
    list_dead_letters(op)
