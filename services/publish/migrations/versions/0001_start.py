"""The core tables, and those of deliveries, feeds and live updates."""

from alembic import op

from kgl_servicekit.database.core_migration import create_core, protect

revision = "0001"
down_revision = None

_TABLES = """
create table endpoint (
    workspace_id uuid not null,
    id uuid not null,
    url varchar not null,
    description varchar not null,
    event_types varchar[] not null,
    secret varchar not null,
    state varchar not null,
    created_at timestamptz not null,
    constraint pk_endpoint primary key (workspace_id, id)
);
create table delivery (
    workspace_id uuid not null,
    id uuid not null,
    endpoint_id uuid not null,
    event_id uuid not null,
    event_type varchar not null,
    webhook_id varchar not null,
    body bytea not null,
    state varchar not null,
    attempts integer not null,
    status integer,
    error varchar,
    next_at timestamptz,
    created_at timestamptz not null,
    ended_at timestamptz,
    constraint pk_delivery primary key (workspace_id, id)
);
create index ix_delivery_listed on delivery (workspace_id, created_at, id);
create table delivery_attempt (
    workspace_id uuid not null,
    delivery_id uuid not null,
    number integer not null,
    at timestamptz not null,
    outcome varchar not null,
    status integer,
    milliseconds integer not null,
    detail varchar,
    constraint pk_delivery_attempt primary key (workspace_id, delivery_id, number)
);
create table published_item (
    workspace_id uuid not null,
    item_id uuid not null,
    version integer not null,
    title varchar not null,
    excerpt varchar not null,
    content_url varchar not null,
    first_published_at timestamptz not null,
    published_at timestamptz not null,
    constraint pk_published_item primary key (workspace_id, item_id)
);
create index ix_published_item_listed on published_item (workspace_id, published_at, item_id);
create table live_event (
    workspace_id uuid not null,
    number bigint generated always as identity,
    event_id uuid not null,
    type varchar not null,
    data jsonb not null,
    at timestamptz not null,
    constraint pk_live_event primary key (workspace_id, number)
);
create index ix_live_event_at on live_event (at);
create table live_ticket (
    workspace_id uuid not null,
    sha256 varchar not null,
    principal varchar not null,
    expires_at timestamptz not null,
    session_ends_at timestamptz,
    constraint pk_live_ticket primary key (workspace_id, sha256)
);
"""

_TRIM = """
create function kgl_trim_live(seconds float8) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    gone bigint;
begin
    if seconds < 60 then
        raise exception 'seconds must be 60 or more';
    end if;
    delete from live_event where at < now() - seconds * interval '1 second';
    get diagnostics gone = row_count;
    delete from live_ticket where expires_at < now() - interval '1 hour';
    return gone;
end $$
"""


def upgrade() -> None:
    """Releases go forward only."""
    create_core(op)
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    op.execute(_TRIM)
    protect(op, "endpoint", "delivery", "delivery_attempt", "published_item", "live_event", "live_ticket")
