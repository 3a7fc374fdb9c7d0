"""The core tables, and those of the graph, of search and of requests to modules.

Databases that ran this before it had a branch `pgvector` have the table `chunk_vector` from here.
"""

from alembic import op

from kgl_graph.db.tables import SEARCH
from kgl_servicekit.database.core_migration import create_core, protect

revision = "0001"
down_revision = None

_TABLES = f"""
create table document (
    workspace_id uuid not null,
    document_id uuid not null,
    version integer not null,
    indexed_version integer,
    deleted_at timestamptz,
    constraint pk_document primary key (workspace_id, document_id)
);
create table chunk (
    workspace_id uuid not null,
    id uuid not null,
    document_id uuid not null,
    version integer not null,
    ordinal integer not null,
    start integer not null,
    "end" integer not null,
    title varchar not null,
    text varchar not null,
    search tsvector generated always as ({SEARCH}) stored,
    constraint pk_chunk primary key (workspace_id, id)
);
create index ix_chunk_search on chunk using gin (search);
create index ix_chunk_document on chunk (workspace_id, document_id);
create table entity (
    workspace_id uuid not null,
    id uuid not null,
    name varchar not null,
    type varchar not null,
    folded varchar not null,
    aliases varchar[] not null,
    created_at timestamptz not null,
    constraint pk_entity primary key (workspace_id, id)
);
create index ix_entity_folded on entity (workspace_id, folded, id);
create table mention (
    workspace_id uuid not null,
    entity_id uuid not null,
    chunk_id uuid not null,
    module varchar not null,
    start integer not null,
    "end" integer not null,
    document_id uuid not null,
    version integer not null,
    constraint pk_mention primary key (workspace_id, entity_id, chunk_id, module, start, "end")
);
create index ix_mention_document on mention (workspace_id, document_id, module);
create table relation (
    workspace_id uuid not null,
    id uuid not null,
    subject_id uuid not null,
    predicate varchar not null,
    object_id uuid not null,
    created_at timestamptz not null,
    constraint pk_relation primary key (workspace_id, id)
);
create index ix_relation_subject on relation (workspace_id, subject_id);
create index ix_relation_object on relation (workspace_id, object_id);
create table relation_source (
    workspace_id uuid not null,
    relation_id uuid not null,
    source varchar not null,
    document_id uuid,
    version integer,
    module varchar,
    evidence jsonb not null,
    constraint pk_relation_source primary key (workspace_id, relation_id, source)
);
create index ix_relation_source_document on relation_source (workspace_id, document_id, module);
create table ai_request (
    workspace_id uuid not null,
    id uuid not null,
    document_id uuid not null,
    version integer not null,
    module varchar not null,
    capability varchar not null,
    state varchar not null,
    mode varchar not null,
    token bigint not null,
    holder varchar,
    attempt integer not null,
    failures integer not null,
    lease_until timestamptz,
    deadline_at timestamptz not null,
    chunks_url varchar not null,
    result_object varchar,
    result_sha256 varchar,
    error varchar,
    operation_id uuid,
    created_at timestamptz not null,
    ended_at timestamptz,
    constraint pk_ai_request primary key (workspace_id, id)
);
create index ix_ai_request_document on ai_request (workspace_id, document_id);
create index ix_ai_request_open on ai_request (state, module, created_at);
"""

# Words are weighed as in BM25: rare ones count more, repeated ones ever less.
# Row-level security turns indexes off for operators that are not leakproof, such as @@. This function belongs
# to the owner, whom the policy does not bind, and takes its workspace from the transaction alone.
_SEARCH_TEXT = """
create function kgl_search_text(words text, most int) returns table (id uuid, score float8)
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
    mine uuid;
begin
    if coalesce(current_setting('kgl.workspaces', true), '') !~ '^[0-9a-f-]{36}$' then
        raise exception 'a search takes place in one workspace';
    end if;
    if most not between 1 and 1000 then
        raise exception 'most must be 1 to 1000';
    end if;
    mine := current_setting('kgl.workspaces')::uuid;
    return query
        with term as (
            select phraseto_tsquery('simple', t.lexeme) as wanted
            from unnest(to_tsvector('english', words)) as t limit 16
        ), weighed as (
            select wanted, (select count(*) from chunk c where c.workspace_id = mine and c.search @@ wanted) as n
            from term
        ), rated as (
            select c.id, ts_rank(c.search, w.wanted) as rank,
                   ln(1 + ((select count(*) from chunk k where k.workspace_id = mine) - w.n + 0.5) / (w.n + 0.5)) as idf
            from weighed w join chunk c on c.workspace_id = mine and c.search @@ w.wanted
        )
        select r.id, sum(r.idf * r.rank / (r.rank + 0.1))::float8 as score
        from rated r group by r.id order by score desc, r.id limit most;
end $$;
create function kgl_request_workspaces(names text[], wanted text[]) returns uuid[]
language sql stable security definer set search_path = public, pg_temp as $$
    select coalesce(array_agg(distinct workspace_id), '{}') from (
        select workspace_id from ai_request
        where state = 'ready' and module = any(names) and capability = any(wanted) limit 1000) as ready
$$;
create function kgl_overdue_workspaces() returns uuid[]
language sql stable security definer set search_path = public, pg_temp as $$
    select coalesce(array_agg(distinct workspace_id), '{}') from (
        select workspace_id from ai_request
        where (state = 'leased' and lease_until < now())
           or (state in ('waiting', 'ready', 'leased') and deadline_at < now()) limit 1000) as overdue
$$
"""


def upgrade() -> None:
    """Releases go forward only."""
    create_core(op)
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    for function in _SEARCH_TEXT.split("$$;\n"):
        op.execute(function if function.rstrip().endswith("$$") else f"{function}$$")
    protect(
        op,
        "document",
        "chunk",
        "entity",
        "mention",
        "relation",
        "relation_source",
        "ai_request",
    )
