"""When a dead letter was decided about, until news of it come: so that no second decision takes it as well."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Releases go forward only."""
    op.execute("alter table dead_letter add column decided_at timestamptz")
