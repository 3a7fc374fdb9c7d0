"""What was found of drift, and the way from one workspace to the next."""

from alembic import op

from kgl_servicekit.drift.table import create_drift

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Releases go forward only."""
    create_drift(op, "published_item")
