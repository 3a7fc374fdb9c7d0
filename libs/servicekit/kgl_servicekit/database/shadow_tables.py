"""Shadow tables: what a migration makes so that a service can build derived tables anew beside the present ones.

Creating, swapping and dropping needs the owner. So a migration makes four functions for each rebuild, named
after it, without arguments, owned by the owner and with a fixed search_path; the service's role may call them:

kgl_rebuild_<name>_start   empty tables <table>_next with the columns, keys, indexes and policies of <table>
kgl_rebuild_<name>_stands  whether they are there, with the columns that <table> has now
kgl_rebuild_<name>_swap    <table>_next takes the name of <table> and of its indexes; the old one is dropped
kgl_rebuild_<name>_drop    <table>_next is dropped

A table that a branch of migrations makes is left out where it is not there.
"""

import re

from sqlalchemy import BigInteger, Column, DateTime, MetaData, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY

from kgl_servicekit.database.core_migration import Operations

_NAME = re.compile(r"[a-z][a-z_]{0,30}")

_TABLE = """
create table rebuild (
    name text not null,
    generation bigint not null,
    state text not null,
    snapshot_id uuid not null,
    received bigint not null default 0,
    expected bigint,
    missing text[] not null default '{}',
    owner uuid not null,
    lease_until timestamptz not null,
    started_at timestamptz not null default now(),
    ended_at timestamptz,
    constraint pk_rebuild primary key (name)
)
"""

_HEAD = """
create or replace function kgl_rebuild_{name}_{verb}() returns {answer}
language plpgsql security definer set search_path = public, pg_temp {options} as $$
declare
    wanted constant text[] := array(
        select name from unnest(array[{tables}]) with ordinality as named (name, place)
        where to_regclass(name) is not null order by place);
    present text;
    part record;
begin
{body}
end $$
"""

# the indexes are made one by one: `including indexes` would give them names that the swap could not foresee
_START = r"""
    foreach present in array wanted loop
        execute format('drop table if exists %I', present || '_next');
        execute format('create table %I (like %I including all excluding indexes)', present || '_next', present);
        for part in
            select i.relname, pg_get_indexdef(i.oid) as definition, x.indisprimary
            from pg_index x join pg_class i on i.oid = x.indexrelid
            where x.indrelid = present::regclass order by i.relname
        loop
            execute regexp_replace(part.definition, ' INDEX \S+ ON \S+ USING ',
                format(' INDEX %I ON %I USING ', part.relname || '_next', present || '_next'));
            if part.indisprimary then
                execute format('alter table %I add constraint %I primary key using index %I',
                    present || '_next', part.relname || '_next', part.relname || '_next');
            end if;
        end loop;
        execute format('alter table %I enable row level security', present || '_next');
        for part in select * from pg_policies where schemaname = 'public' and tablename = present loop
            execute format('create policy %I on %I as %s for %s to %s using (%s) with check (%s)', part.policyname,
                present || '_next', part.permissive, part.cmd, array_to_string(part.roles, ', '),
                part.qual, part.with_check);
        end loop;
        for part in
            select grantee::regrole as role, string_agg(privilege_type, ', ') as rights
            from pg_class c, aclexplode(c.relacl) where c.oid = present::regclass and grantee <> c.relowner
            group by grantee
        loop
            execute format('grant %s on %I to %s', part.rights, present || '_next', part.role);
        end loop;
    end loop;
"""

_STANDS = """
    foreach present in array wanted loop
        if to_regclass(present || '_next') is null or (
            select array_agg(attname || ' ' || format_type(atttypid, atttypmod) order by attname) from pg_attribute
            where attrelid = to_regclass(present) and attnum > 0 and not attisdropped
        ) is distinct from (
            select array_agg(attname || ' ' || format_type(atttypid, atttypmod) order by attname) from pg_attribute
            where attrelid = to_regclass(present || '_next') and attnum > 0 and not attisdropped
        ) then
            return false;
        end if;
    end loop;
    return true;
"""

_SWAP = """
    if not kgl_rebuild_{name}_stands() then
        raise exception 'there are no shadow tables that fit';
    end if;
    foreach present in array wanted loop
        execute format('analyze %I', present || '_next');
    end loop;
    foreach present in array wanted loop
        execute format('lock table %I in access exclusive mode', present);
    end loop;
    foreach present in array wanted loop
        execute format('drop table %I', present);
        execute format('alter table %I rename to %I', present || '_next', present);
        for part in
            select i.relname from pg_index x join pg_class i on i.oid = x.indexrelid
            where x.indrelid = present::regclass
        loop
            execute format('alter index %I rename to %I', part.relname, left(part.relname, -length('_next')));
        end loop;
    end loop;
"""

_DROP = """
    foreach present in array wanted loop
        execute format('drop table if exists %I', present || '_next');
    end loop;
"""


def rebuild_table(metadata: MetaData) -> Table:
    """The model of the table in which rebuilds keep how far they are."""
    return Table(
        "rebuild",
        metadata,
        Column("name", Text, primary_key=True),
        Column("generation", BigInteger, nullable=False),
        Column("state", Text, nullable=False),
        Column("snapshot_id", Uuid, nullable=False),
        Column("received", BigInteger, nullable=False, server_default=text("0")),
        Column("expected", BigInteger),
        Column("missing", ARRAY(Text), nullable=False, server_default=text("'{}'")),
        Column("owner", Uuid, nullable=False),
        Column("lease_until", DateTime(timezone=True), nullable=False),
        Column("started_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
        Column("ended_at", DateTime(timezone=True)),
        info={"kind": "source"},
    )


def create_rebuilds(op: Operations) -> None:
    """Make the table of `rebuild_table`."""
    op.execute(_TABLE)


def allow_rebuild(op: Operations, name: str, tables: tuple[str, ...]) -> None:
    """Make the functions of one rebuild; its tables are written into them, so that they take no arguments."""
    if not all(_NAME.fullmatch(word) for word in (name, *tables)):
        raise ValueError(f"a rebuild and its tables have names of small letters, not {name}, {tables}")
    functions = (
        ("start", "void", "", _START),
        ("stands", "boolean", "", _STANDS),
        ("swap", "void", "set lock_timeout = '5s'", _SWAP.replace("{name}", name)),
        ("drop", "void", "", _DROP),
    )
    listed = ", ".join(f"'{table}'" for table in tables)
    for verb, answer, options, body in functions:
        op.execute(_HEAD.format(name=name, verb=verb, answer=answer, options=options, tables=listed, body=body))
