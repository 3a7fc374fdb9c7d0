"""The receipt of a deletion tells what went; the title that a version was given is kept with it, and goes with it."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Releases go forward only."""
    op.execute("alter table document_version add column title varchar")
    op.execute("alter table operation_stage add column removed jsonb not null default '{}'")
    op.execute("alter table operation_stage add column kept_until jsonb not null default '{}'")
