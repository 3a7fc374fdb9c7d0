"""The last result of each module about a document, by which an older one that ends later is known."""

from alembic import op

from kgl_servicekit.database.core_migration import protect

revision = "0003"
down_revision = "0002"

_TABLE = """
create table last_result (
    workspace_id uuid not null,
    document_id uuid not null,
    module varchar not null,
    kind varchar not null,
    version integer not null,
    sha256 varchar not null,
    constraint pk_last_result primary key (workspace_id, document_id, module, kind)
)
"""


def upgrade() -> None:
    """Releases go forward only."""
    op.execute(_TABLE)
    protect(op, "last_result")
