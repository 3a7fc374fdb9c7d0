"""A signing key is published some time before it signs."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Releases go forward only."""
    op.execute("alter table signing_key add column signs_from timestamptz not null default now()")
    op.execute("update signing_key set signs_from = created_at")
