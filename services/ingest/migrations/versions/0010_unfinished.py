"""How old the oldest unfinished operation is, and which stages are past their deadline, over all workspaces."""

from alembic import op

revision = "0010"
down_revision = "0009"

_UNFINISHED = """
create function kgl_unfinished() returns table (oldest_seconds float8, overdue jsonb)
language sql stable security definer set search_path = public, pg_temp as $$
    select (select extract(epoch from now() - min(created_at))::float8 from operation where state = 'running'),
           (select coalesce(jsonb_object_agg(kind, many), '{}') from (
                -- decisions about dead letters have a stage for each letter, named after it
                select split_part(s.name, '.', 1) || '.' || split_part(s.name, '.', 2) as kind, count(*) as many
                from operation_stage s join operation o on o.workspace_id = s.workspace_id and o.id = s.operation_id
                where s.planned and s.ended_at is null and s.deadline_at < now() and o.state = 'running'
                group by 1) as late)
$$
"""


def upgrade() -> None:
    """Releases go forward only."""
    op.execute("create index ix_operation_running on operation (created_at) where state = 'running'")
    op.execute(
        "create index ix_operation_stage_open on operation_stage (deadline_at) where planned and ended_at is null"
    )
    op.execute(_UNFINISHED)
