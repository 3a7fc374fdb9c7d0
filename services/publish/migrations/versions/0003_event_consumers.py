"""The live log keeps whole envelopes, and named consumers read it."""

from alembic import op

from kgl_servicekit.database.core_migration import protect

revision = "0003"
down_revision = "0002"

_TABLES = """
alter table live_event
    add column topic varchar,
    add column key varchar,
    add column source varchar,
    add column sequence bigint,
    add column source_epoch bigint,
    add column operation_id uuid,
    add column causation_id uuid,
    add column actor_id varchar,
    add column traceparent varchar,
    add column appended_at timestamptz not null default clock_timestamp();
drop index ix_live_event_at;
create index ix_live_event_appended_at on live_event (appended_at);
create table event_consumer (
    workspace_id uuid not null,
    name varchar not null,
    topics varchar[] not null,
    types varchar[] not null,
    position bigint not null,
    pulled_to bigint not null,
    token bigint not null,
    leased_until timestamptz,
    lost bigint not null,
    created_at timestamptz not null,
    constraint pk_event_consumer primary key (workspace_id, name)
)
"""

# by the time of appending: an event that comes late is kept as long as any other. What a consumer is handling
# stays until it is committed or the lease is over, so that it is neither lost in silence nor counted as lost.
# A statement that begins under the locks sees every position that was moved before them.
_TRIM = """
create or replace function kgl_trim_live(seconds float8) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    trimmed bigint;
begin
    if seconds < 60 then
        raise exception 'seconds must be 60 or more';
    end if;
    perform from event_consumer c
    where exists (select from live_event e where e.workspace_id = c.workspace_id
                  and e.appended_at < now() - seconds * interval '1 second')
    order by workspace_id, name for update;
    with gone as (
        delete from live_event e where appended_at < now() - seconds * interval '1 second'
        and not exists (select from event_consumer c where c.workspace_id = e.workspace_id
                        and c.leased_until > clock_timestamp()
                        and e.number > c.position and e.number <= c.pulled_to)
        returning workspace_id, number, topic, type
    ), unread as (
        select c.workspace_id, c.name, count(*) as events
        from event_consumer c join gone g on g.workspace_id = c.workspace_id and g.number > c.position
        where g.topic is not null
          and (c.topics = '{}' or g.topic = any (c.topics)) and (c.types = '{}' or g.type = any (c.types))
        group by c.workspace_id, c.name
    ), told as (
        update event_consumer c set lost = c.lost + u.events from unread u
        where u.workspace_id = c.workspace_id and u.name = c.name
    )
    select count(*) into trimmed from gone;
    delete from live_ticket where expires_at < now() - interval '1 hour';
    return trimmed;
end $$
"""


def upgrade() -> None:
    """Releases go forward only."""
    for statement in _TABLES.split(";\n"):
        op.execute(statement)
    op.execute(_TRIM)
    protect(op, "event_consumer")
