"""What was found of drift, and the way from one workspace to the next."""

from alembic import op

from kgl_servicekit.drift.table import create_drift

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Releases go forward only."""
    create_drift(op, "document", "blob")
