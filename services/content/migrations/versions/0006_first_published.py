"""When an item was released for the first time, which only the feed knew.

Of those that were released more than once before, it is the last time.
"""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Releases go forward only."""
    op.execute("alter table item add column first_published_at timestamptz")
    op.execute("update item set first_published_at = published_at where published_version is not null")
