"""The tables of the postgres transport, in a database of its own."""

SCHEMA = """
create table if not exists log_topic (
    topic text primary key,
    partitions int not null,
    compacted boolean not null,
    incarnation uuid not null default gen_random_uuid()
);
create table if not exists log_partition (
    topic text not null references log_topic on delete cascade,
    partition int not null,
    next bigint not null default 0,
    primary key (topic, partition)
) with (fillfactor = 50);
create table if not exists log_record (
    topic text not null,
    partition int not null,
    "offset" bigint not null,
    key text not null,
    headers bytea not null,
    value bytea not null,
    at timestamptz not null default now(),
    primary key (topic, partition, "offset")
);
create table if not exists log_group (
    topic text not null references log_topic on delete cascade,
    grp text not null,
    partition int not null,
    position bigint not null default 0,
    owner text,
    used_at timestamptz not null default now(),
    primary key (topic, grp, partition)
);
create table if not exists log_member (
    topic text not null references log_topic on delete cascade,
    grp text not null,
    member text not null,
    expires_at timestamptz not null,
    primary key (topic, grp, member)
);
create index if not exists ix_log_record_key on log_record (topic, partition, key, "offset");
do $$ begin
    if exists (select from pg_attribute where attrelid = 'log_record'::regclass and attname = 'headers'
               and atttypid = 'jsonb'::regtype) then
        alter table log_record alter column headers type bytea using convert_to(headers::text, 'UTF8');
    end if;
    if not exists (select from pg_attribute where attrelid = 'log_group'::regclass and attname = 'used_at') then
        alter table log_group add column used_at timestamptz not null default now();
    end if;
end $$;
"""

DECLARE_TOPIC = """
insert into log_topic (topic, partitions, compacted) values ($1, $2, $3)
on conflict (topic) do update set compacted = excluded.compacted
returning partitions
"""

# A topic without partitions is new: what an earlier life has left has its offsets.
BEGIN_EMPTY = """
delete from log_record where topic = $1 and not exists (select from log_partition where topic = $1)
"""

DECLARE_PARTITIONS = """
insert into log_partition (topic, partition) select $1, generate_series(0, $2 - 1) on conflict do nothing
"""

# Offsets are drawn under the partition's row lock, which is held to the commit: no reader sees offset n + 1
# while n may still appear. Partitions are locked in sorted order, so that writers never deadlock.
SEND = """
with input as (
    select * from unnest($1::text[], $2::int[], $3::text[], $4::bytea[], $5::bytea[])
    with ordinality as i(topic, partition, key, headers, value, place)
), locked as (
    select p.topic, p.partition, p.next from log_partition p
    where (p.topic, p.partition) in (select topic, partition from input)
    order by p.topic, p.partition for update
), moved as (
    update log_partition p set next = l.next + c.n
    from locked l join (select topic, partition, count(*) as n from input group by 1, 2) c
      on c.topic = l.topic and c.partition = l.partition
    where p.topic = l.topic and p.partition = l.partition
), written as (
    insert into log_record (topic, partition, "offset", key, headers, value)
    select i.topic, i.partition,
           l.next + row_number() over (partition by i.topic, i.partition order by i.place) - 1,
           i.key, i.headers, i.value
    from input i join locked l on l.topic = i.topic and l.partition = i.partition
    order by i.place
)
select topic, partition, next from locked
"""

# A partition at its end gives no row, and one whose records are all gone since a row without an offset.
READ = """
select p.partition, r."offset", r.key, r.headers, r.value
from unnest($2::int[], $3::bigint[]) as wanted(partition, start)
join log_partition p on p.topic = $1 and p.partition = wanted.partition and p.next > wanted.start
left join lateral (
    select "offset", key, headers, value from log_record
    where topic = $1 and partition = wanted.partition and "offset" >= wanted.start
    order by "offset" limit $4
) r on true
"""

ENDS = """
select p.partition, p.next, coalesce(
    (select min(r."offset") from log_record r where r.topic = p.topic and r.partition = p.partition), p.next) as first
from log_partition p where p.topic = $1
"""

JOIN = """
insert into log_member (topic, grp, member, expires_at)
values ($1, $2, $3, clock_timestamp() + $4 * interval '1 second')
on conflict (topic, grp, member) do update set expires_at = excluded.expires_at
"""

# One member at a time divides, under the topic's row lock; each takes its even share of what is free. Whoever changes
# several rows of a group locks them in sorted order first, as here, so that those who hold no topic never deadlock.
SHARE = """
with live as (
    select member from log_member where topic = $1 and grp = $2 and expires_at > clock_timestamp()
), wanted as (
    select p.partition, (select array_agg(member order by member) from live) as members
    from log_partition p where p.topic = $1
), shares as (
    select partition, members[1 + partition % cardinality(members)] as member from wanted
), locked as (
    select partition from log_group where topic = $1 and grp = $2 order by partition for update
)
update log_group g set owner = s.member
from shares s join locked using (partition)
where g.topic = $1 and g.grp = $2 and g.partition = s.partition and g.owner is distinct from s.member
  and (g.owner is null or g.owner = $3 or g.owner not in (select member from live))
returning g.partition
"""

# A group in which nobody came, went or died, and nothing is free, is divided as it was: true, and the lease is longer.
PROLONG = """
with settled as (
    select (select array_agg(member order by member collate "C") from log_member where topic = $1 and grp = $2)
             is not distinct from $5::text[]
       and not exists (select from log_member
                       where topic = $1 and grp = $2 and expires_at < clock_timestamp())
       and (select array_agg(partition order by partition) from log_group
            where topic = $1 and grp = $2 and owner = $3)
             is not distinct from (select array_agg(p order by p) from unnest($6::int[]) as p)
       and not exists (select from log_group where topic = $1 and grp = $2 and owner is null) as so
)
update log_member set expires_at = clock_timestamp() + $4 * interval '1 second'
from settled
where settled.so and topic = $1 and grp = $2 and member = $3 and expires_at > clock_timestamp()
returning true
"""

LEAVE = (
    "delete from log_member where topic = $1 and grp = $2 and member = $3",
    """
    with locked as (
        select partition from log_group where topic = $1 and grp = $2 and owner = $3 order by partition for update
    )
    update log_group g set owner = null from locked l
    where g.topic = $1 and g.grp = $2 and g.partition = l.partition and g.owner = $3
    """,
)

FREE_PREDECESSOR = (
    "delete from log_member where starts_with(member, $1)",
    """
    with locked as (
        select topic, grp, partition from log_group where starts_with(owner, $1)
        order by topic, grp, partition for update
    )
    update log_group g set owner = null from locked l
    where g.topic = l.topic and g.grp = l.grp and g.partition = l.partition and starts_with(g.owner, $1)
    """,
)

FORGET_GROUP = (
    "delete from log_member where topic = $1 and grp = $2",
    """
    with locked as (select partition from log_group where topic = $1 and grp = $2 order by partition for update)
    delete from log_group g using locked l where g.topic = $1 and g.grp = $2 and g.partition = l.partition
    """,
)

# Groups of one reading, of a check of drift or a rebuild, that were not ended in good order: their positions would keep
# the topic from being trimmed. Where a rebuild goes on is in the database of its service.
ABANDONED = """
select g.topic, g.grp from log_group g
where g.grp ~ '@(drift|rebuild)-' and not exists (
    select from log_member m where m.topic = g.topic and m.grp = g.grp and m.expires_at > clock_timestamp())
group by g.topic, g.grp having max(g.used_at) < now() - $1 * interval '1 second'
"""

COMPACT = """
delete from log_record r using log_topic t
where t.topic = r.topic and t.compacted and exists (
    select from log_record newer
    where newer.topic = r.topic and newer.partition = r.partition and newer.key = r.key
      and newer."offset" > r."offset")
"""

TRIM = """
delete from log_record r using log_topic t
where t.topic = r.topic and not t.compacted and r.at < now() - $1 * interval '1 second'
  and r."offset" < coalesce((select min(g.position) from log_group g
                             where g.topic = r.topic and g.partition = r.partition), r."offset" + 1)
"""


def channel(topic: str) -> str:
    """The channel of LISTEN that tells of new records in a topic."""
    return f"kgl_log.{topic}"
