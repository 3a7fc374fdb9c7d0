"""The feed can be built anew beside the present one."""

from alembic import op

from kgl_servicekit.database.shadow_tables import allow_rebuild, create_rebuilds

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Releases go forward only."""
    create_rebuilds(op)
    allow_rebuild(op, "items", ("published_item",))
