"""The receipts of all workspaces for operators, and the ids of what does not end."""

from alembic import op

revision = "0013"
down_revision = "0012"

# Row-level security shows a transaction its own workspaces alone: operators name all that have operations, each of
# which is found by one step through an index, however many operations it has.
_WORKSPACES = """
create function kgl_operation_workspaces() returns uuid[]
language sql stable security definer set search_path = public, pg_temp as $$
    with recursive each as (
        (select workspace_id from operation order by workspace_id limit 1)
        union all
        select (select o.workspace_id from operation o where o.workspace_id > each.workspace_id
                order by o.workspace_id limit 1)
        from each where each.workspace_id is not null
    )
    select coalesce(array_agg(workspace_id), '{}') from each where workspace_id is not null
$$
"""

# The stages and conditions of kgl_unfinished; a row without a stage has the oldest operations of all.
_IDS = """
create function kgl_unfinished_ids() returns table (stage text, ids uuid[])
language sql stable security definer set search_path = public, pg_temp as $$
    select split_part(s.name, '.', 1) || '.' || split_part(s.name, '.', 2), (array_agg(distinct o.id))[1:3]
    from operation_stage s join operation o on o.workspace_id = s.workspace_id and o.id = s.operation_id
    where s.planned and s.ended_at is null and s.deadline_at < now() and o.state = 'running'
    group by 1
    union all
    select null, array(select id from operation where state = 'running' order by created_at limit 3)
$$
"""


def upgrade() -> None:
    """Releases go forward only."""
    op.execute("create index ix_operation_created on operation (created_at, id)")
    op.execute(_WORKSPACES)
    op.execute(_IDS)
