"""What a snapshot of all workspaces needs: the way from one to the next."""

from alembic import op

revision = "0004"
down_revision = "0003"

# row-level security shows a transaction its own workspaces alone, and nobody keeps a list of those with documents
_NEXT_WORKSPACE = """
create function kgl_next_document_workspace(after uuid) returns uuid
language sql stable security definer set search_path = public, pg_temp as $$
    select workspace_id from document where workspace_id > after order by workspace_id limit 1
$$
"""


def upgrade() -> None:
    """Releases go forward only."""
    op.execute(_NEXT_WORKSPACE)
