"""Receipts are found by state and subject, and forgotten some time after their end; dead letters are found by id."""

from alembic import op

revision = "0014"
down_revision = "0013"

# One step through the index of the primary key for each workspace, however many letters it has.
_WORKSPACES = """
create or replace function kgl_dead_letter_workspaces() returns uuid[]
language sql stable security definer set search_path = public, pg_temp as $$
    with recursive each as (
        (select workspace_id from dead_letter order by workspace_id limit 1)
        union all
        select (select d.workspace_id from dead_letter d where d.workspace_id > each.workspace_id
                order by d.workspace_id limit 1)
        from each where each.workspace_id is not null
    )
    select coalesce(array_agg(workspace_id), '{}') from each where workspace_id is not null
$$
"""

# A letter that is still to be decided about moves its operation on again: that one is kept.
_TRIM = """
create function kgl_trim_operations(days int, most int) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    gone bigint;
begin
    if days not between 1 and 3660 or most not between 1 and 10000 then
        raise exception 'days must be 1 to 3660, most 1 to 10000';
    end if;
    with old as (
        select o.workspace_id, o.id from operation o
        where o.created_at < now() - days * interval '1 day' and o.state <> 'running'
          and o.ended_at < now() - days * interval '1 day'
          and not exists (select from dead_letter d where d.operation_id = o.id and d.state in ('dead', 'retrying'))
        order by o.created_at, o.id limit most for update skip locked
    ), stages as (
        delete from operation_stage s using old where s.workspace_id = old.workspace_id and s.operation_id = old.id
    )
    delete from operation o using old where o.workspace_id = old.workspace_id and o.id = old.id;
    get diagnostics gone = row_count;
    return gone;
end $$
"""


def upgrade() -> None:
    """Releases go forward only."""
    op.execute("create index ix_operation_state on operation (workspace_id, state, created_at, id)")
    op.execute("create index ix_operation_subject on operation (workspace_id, subject)")
    op.execute("create unique index uq_dead_letter_id on dead_letter (id)")
    op.execute(_WORKSPACES)
    op.execute(_TRIM)
