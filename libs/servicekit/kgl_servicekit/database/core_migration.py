"""What the first migration of every service does: core tables, shards, partitions, and the policy of a table."""

from typing import Protocol

from sqlalchemy import MetaData
from sqlalchemy.engine import Connection

from kgl_servicekit.database.core_schema import CORE_TABLES, service_registry

SHARDS = 16

# one partition a day of UTC. Those that are there may begin at the midnights of another time zone: a new one
# begins where the last one ends, so that there is a place for every row, and only one
_PARTITIONS = """
create or replace function kgl_outbox_partitions(days_ahead int, days_kept int) returns int
language plpgsql security definer
set search_path = public, pg_temp set timezone = 'UTC' set datestyle = 'ISO' as $$
declare
    day date;
    last timestamptz;
    part record;
    made int := 0;
begin
    if days_ahead not between 0 and 30 or days_kept not between 1 and 366 then
        raise exception 'days_ahead must be 0 to 30 and days_kept 1 to 366';
    end if;
    perform pg_advisory_xact_lock(hashtext('kgl_outbox_partitions'));
    select max(substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \\(''([^'']+)''\\)')::timestamptz) into last
    from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'outbox_log'::regclass;
    for day in select generate_series(current_date, current_date + days_ahead, interval '1 day')::date loop
        if to_regclass(format('outbox_log_%s', to_char(day, 'YYYYMMDD'))) is null
           and (last is null or last < (day + 1)::timestamptz) then
            execute format('create table outbox_log_%s partition of outbox_log for values from (%L) to (%L)',
                to_char(day, 'YYYYMMDD'), coalesce(last, day::timestamptz), (day + 1)::timestamptz);
            last := (day + 1)::timestamptz;
            made := made + 1;
        end if;
    end loop;
    for part in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'outbox_log'::regclass
          and c.relname < format('outbox_log_%s', to_char(current_date - days_kept, 'YYYYMMDD'))
    loop
        if not exists (select from outbox_pending p
                       where p.logged_at < (current_date - days_kept + 1)::timestamptz) then
            execute format('drop table %I', part.relname);
        end if;
    end loop;
    return made;
end $$
"""

# one partition a day by the time of the event: what is older than the oldest partition cannot be told from a
# duplicate any more, and is held instead of executed
_INBOX_PARTITIONS = """
create function kgl_inbox_partitions(days_ahead int, days_kept int) returns int
language plpgsql security definer set search_path = public, pg_temp set timezone = 'UTC' as $$
declare
    day date;
    part record;
    made int := 0;
begin
    if days_ahead not between 0 and 30 or days_kept not between 1 and 366 then
        raise exception 'days_ahead must be 0 to 30 and days_kept 1 to 366';
    end if;
    perform pg_advisory_xact_lock(hashtext('kgl_inbox_partitions'));
    for day in
        select generate_series(current_date - days_kept, current_date + days_ahead, interval '1 day')::date
    loop
        if to_regclass(format('inbox_%s', to_char(day, 'YYYYMMDD'))) is null then
            execute format('create table inbox_%s partition of inbox for values from (%L) to (%L)',
                to_char(day, 'YYYYMMDD'), day::timestamptz, (day + 1)::timestamptz);
            made := made + 1;
        end if;
    end loop;
    for part in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'inbox'::regclass
          and c.relname < format('inbox_%s', to_char(current_date - days_kept, 'YYYYMMDD'))
    loop
        execute format('drop table %I', part.relname);
    end loop;
    return made;
end $$
"""

# idempotent: the first migration of a new database makes the core tables as they are today
_SECOND = """
alter table consumer_position
    add column if not exists starts integer not null default 0,
    add column if not exists started_at bigint,
    add column if not exists in_flight bigint,
    add column if not exists deaths integer not null default 0;
alter table held_event add column if not exists incarnation text not null default '';
drop index if exists uq_held_event_record;
create unique index uq_held_event_record on held_event (subscription, topic, incarnation, partition, "offset");
create table if not exists relay_position (
    topic text not null,
    partition integer not null,
    incarnation text not null,
    "offset" bigint not null,
    constraint pk_relay_position primary key (topic, partition)
);
create table if not exists relay_refused (
    topic text not null,
    key text not null,
    id bigint not null,
    error text not null,
    at timestamptz not null default now(),
    constraint pk_relay_refused primary key (topic, key)
);
create table if not exists inbox (
    subscription text not null,
    event_id uuid not null,
    occurred_at timestamptz not null,
    constraint pk_inbox primary key (subscription, event_id, occurred_at)
) partition by range (occurred_at);
create table if not exists correction (
    subscription text not null,
    event_id uuid not null,
    value bytea not null,
    actor text not null,
    at timestamptz not null default now(),
    constraint pk_correction primary key (subscription, event_id)
)
"""

# a turn for each job that is in line, the weights that turns go by, and the indexes of both
_SECOND_JOBS = """
alter table job add column if not exists turn double precision;
create table if not exists job_weight (
    workspace_id uuid not null,
    weight double precision not null,
    constraint pk_job_weight primary key (workspace_id)
);
drop index if exists ix_job_ready;
create index ix_job_ready on job (kind, job_class, turn, id)
    where state = 'queued' and turn is not null and deaths < 2;
create index if not exists ix_job_flow on job (kind, job_class, workspace_id, turn)
    where state = 'queued' and turn is not null;
create index if not exists ix_job_due on job (run_at, id) where state = 'queued' and turn is null;
create index if not exists ix_job_suspect on job (run_at, id) where state = 'queued' and deaths >= 2;
create index if not exists ix_job_operation_id on job (operation_id) where operation_id is not null;
alter table job set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05)
"""

# what was told of a dead letter, and the receipt of the decision to redrive it
_DEAD_LETTERS = """
alter table held_event
    add column if not exists letter uuid,
    add column if not exists told text,
    add column if not exists redrive_operation uuid,
    add column if not exists redrive_workspace uuid,
    add column if not exists run integer not null default 1;
create index if not exists ix_held_event_letter on held_event (letter) where letter is not null
"""


class Operations(Protocol):
    """What a migration uses of Alembic's `op`."""

    def execute(self, sqltext: str) -> None: ...
    def get_bind(self) -> Connection: ...


def create_core(op: Operations) -> None:
    """Create the core tables, the relay's shards and the first partitions of the outbox."""
    metadata: MetaData = service_registry().metadata
    metadata.create_all(op.get_bind(), tables=[metadata.tables[name] for name in CORE_TABLES])
    op.execute("insert into source (id, epoch) values (1, 1)")
    op.execute(f"insert into relay_shard (shard) select generate_series(0, {SHARDS - 1})")
    op.execute(_PARTITIONS)
    op.execute("select kgl_outbox_partitions(3, 7)")
    op.execute("alter table outbox_pending set (autovacuum_vacuum_scale_factor = 0.01)")


def complete_core(op: Operations) -> None:
    """The second migration of every service: what the whole core needs besides."""
    for statements in (_SECOND, _SECOND_JOBS):
        for statement in statements.split(";\n"):
            op.execute(statement)
    op.execute(_PARTITIONS)
    op.execute("select kgl_outbox_partitions(3, 7)")
    op.execute(_INBOX_PARTITIONS)
    op.execute("select kgl_inbox_partitions(2, 7)")


def list_dead_letters(op: Operations) -> None:
    """What every service needs to tell of its dead letters, and to be told what was decided about them."""
    for statement in _DEAD_LETTERS.split(";\n"):
        op.execute(statement)


def protect(op: Operations, *tables: str) -> None:
    """Bind every role but the owner to the workspaces of its transaction, on these tables.

    The setting is read once in a statement, as an array, so that a batch over many workspaces stays cheap;
    without the setting no row is visible. Not FORCE: functions of the owner do their own check.
    """
    allowed = (
        "workspace_id = any ((select string_to_array(nullif(current_setting("
        "'kgl.workspaces', true), ''), ',')::uuid[])::uuid[])"
    )
    for table in tables:
        op.execute(f"alter table {table} enable row level security")
        op.execute(f"create policy workspaces on {table} using ({allowed}) with check ({allowed})")
