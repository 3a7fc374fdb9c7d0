"""What an operation works on has a type; those of before, and of the release before, are about documents."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Releases go forward only."""
    op.execute("alter table operation add column subject_type varchar not null default 'document'")
