"""The core tables, and counters."""

from alembic import op

from kgl_servicekit.database.core_migration import create_core, protect

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create all."""
    create_core(op)
    op.execute(
        """create table counter (workspace_id uuid not null, name varchar not null, value integer not null,
                                 constraint pk_counter primary key (workspace_id, name))"""
    )
    protect(op, "counter")
