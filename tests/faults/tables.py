"""The tables of the small service, beside the core: none has a key that could hide a duplicate."""

ALLOWED = """workspace_id = any ((select string_to_array(nullif(current_setting(
    'kgl.workspaces', true), ''), ',')::uuid[])::uuid[])"""

TABLES = f"""
create table written (workspace_id uuid not null, command uuid not null, item text not null, number bigint not null,
                      trouble text, call boolean not null);
create table effect (id bigint generated always as identity, workspace_id uuid not null, hop text not null,
                     item text not null, number bigint not null, sequence bigint, event_id uuid,
                     worker text not null, at timestamptz not null default clock_timestamp());
create index on effect (id);
create table mended (workspace_id uuid not null);
alter table written enable row level security;
alter table effect enable row level security;
alter table mended enable row level security;
create policy workspaces on written using ({ALLOWED}) with check ({ALLOWED});
create policy workspaces on effect using ({ALLOWED}) with check ({ALLOWED});
create policy workspaces on mended using ({ALLOWED}) with check ({ALLOWED});
"""

COUNT = """
insert into counter as c (workspace_id, name, value)
select $1, name, count(*) from unnest($2::text[]) as i(name) group by name order by name
on conflict (workspace_id, name) do update set value = c.value + excluded.value returning name, value
"""
WRITE = "insert into written select $1, $2, * from unnest($3::text[], $4::bigint[], $5::text[], $6::boolean[])"
TAKE = """
insert into effect (workspace_id, hop, item, number, sequence, event_id, worker)
select w, $2, item, number, sequence, event_id, $7
from unnest($1::uuid[], $3::text[], $4::bigint[], $5::bigint[], $6::uuid[]) with ordinality
     as i(w, item, number, sequence, event_id, place) order by place
"""
