"""A delivery knows the receipt that waits for it."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Releases go forward only."""
    op.execute("alter table delivery add column operation_id uuid")
