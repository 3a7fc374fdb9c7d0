"""The modules that the plan of a document version counts on; those accepted before have none noted."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Releases go forward only."""
    op.execute("alter table document_version add column modules jsonb")
