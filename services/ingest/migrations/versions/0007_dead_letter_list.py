"""The list of the dead letters of all services."""

from alembic import op

from kgl_servicekit.database.core_migration import protect

revision = "0007"
down_revision = "0006"

_TABLE = """
create table dead_letter (
    workspace_id uuid not null,
    id uuid not null,
    service varchar not null,
    subscription varchar not null,
    topic varchar not null,
    "partition" integer not null,
    "offset" bigint not null,
    key varchar not null,
    event_id uuid,
    type varchar,
    sequence bigint,
    operation_id uuid,
    state varchar not null,
    reason varchar not null,
    error varchar,
    attempts integer not null,
    headers jsonb not null,
    value bytea,
    size integer not null,
    corrected bytea,
    waiting integer not null,
    next_waiting jsonb not null,
    note varchar,
    decision varchar,
    decision_operation uuid,
    first_at timestamptz not null,
    dead_at timestamptz not null,
    moved_at timestamptz not null,
    constraint pk_dead_letter primary key (workspace_id, id)
);
create index ix_dead_letter_listed on dead_letter (dead_at, id);
create index ix_dead_letter_operation_id on dead_letter (operation_id) where operation_id is not null
"""

# Row-level security shows a transaction its own workspaces alone: operators name all that have letters.
_WORKSPACES = """
create function kgl_dead_letter_workspaces() returns uuid[]
language sql stable security definer set search_path = public, pg_temp as $$
    select coalesce(array_agg(distinct workspace_id), '{}') from dead_letter
$$
"""

_TRIM = """
create function kgl_trim_dead_letters(days int) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    gone bigint;
begin
    if days not between 1 and 3660 then
        raise exception 'days must be 1 to 3660';
    end if;
    delete from dead_letter where state in ('settled', 'discarded') and moved_at < now() - days * interval '1 day';
    get diagnostics gone = row_count;
    return gone;
end $$
"""


def upgrade() -> None:
    """Releases go forward only."""
    for statement in _TABLE.split(";\n"):
        op.execute(statement)
    protect(op, "dead_letter")
    op.execute(_WORKSPACES)
    op.execute(_TRIM)
