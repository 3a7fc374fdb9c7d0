"""What another identity provider needs: roles by groups, the place in its events, users put out, turns."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Releases go forward only."""
    op.execute("alter table user_account add column revoked_before timestamptz")
    op.execute("alter table browser_session add column refreshing_until timestamptz")
    op.execute(
        """create table group_grant (
            workspace_id uuid not null, user_id uuid not null, roles text[] not null,
            constraint pk_group_grant primary key (workspace_id, user_id),
            constraint fk_group_grant_user_id_user_account foreign key (user_id) references user_account (id))"""
    )
    op.execute("create index ix_group_grant_user_id on group_grant (user_id)")
    op.execute(
        """create table provider_position (
            name varchar not null, read_to timestamptz not null,
            constraint pk_provider_position primary key (name))"""
    )
