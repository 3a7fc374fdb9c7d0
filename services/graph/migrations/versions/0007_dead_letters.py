"""What was told of dead letters, and the receipts of what was decided about them."""

from alembic import op

from kgl_servicekit.database.core_migration import list_dead_letters

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Releases go forward only."""
    list_dead_letters(op)
