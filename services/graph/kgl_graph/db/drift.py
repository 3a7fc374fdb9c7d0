"""What differs within the tables of graph: states of a key `p.key` in the workspace $1 (`RowCheck`).

A document whose erasure is on its way is left alone.
"""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from kgl_contracts.ingest import DocumentSnapshotted
from kgl_servicekit.database.transaction import Transaction

_ERASING = """exists (select from job j where j.kind = 'graph.forget' and j.state in ('queued', 'running')
                  and j.data ->> 'document_id' = p.key::text)"""

DOCUMENT_OF_MENTIONS = f"""
case when not exists (select from document d where d.workspace_id = $1 and d.document_id = p.key
                        and d.deleted_at is null)
     then case when {_ERASING} then null else 'its document is gone' end
     when exists (select from mention m where m.workspace_id = $1 and m.document_id = p.key
                    and not exists (select from entity e where e.workspace_id = $1 and e.id = m.entity_id))
     then 'mentions an entity that is gone'
     when exists (select from mention m where m.workspace_id = $1 and m.document_id = p.key
                    and not exists (select from entity_source s where s.workspace_id = $1 and s.document_id = p.key
                                      and s.module = m.module and s.entity_id = m.entity_id))
     then 'mentions an entity that it does not name' end
"""

DOCUMENT_OF_SOURCES = f"""
case when not exists (select from document d where d.workspace_id = $1 and d.document_id = p.key
                        and d.deleted_at is null)
     then case when {_ERASING} then null else 'its document is gone' end
     when exists (select from entity_source s where s.workspace_id = $1 and s.document_id = p.key
                    and not exists (select from entity e where e.workspace_id = $1 and e.id = s.entity_id))
     then 'names an entity that is gone'
     when exists (select from relation_source s where s.workspace_id = $1 and s.document_id = p.key
                    and not exists (select from relation r where r.workspace_id = $1 and r.id = s.relation_id))
     then 'states a relation that is gone' end
"""

SAID_WRONG = (
    "mentions an entity that is gone",
    "mentions an entity that it does not name",
    "names an entity that is gone",
    "states a relation that is gone",
)
"""Of living documents: linked again from the result that said it, where there is one."""

ENTITY = """
case when not exists (select from entity_source s where s.workspace_id = $1 and s.entity_id = p.key)
     then 'without a source' end
"""

RELATION = """
case when not exists (select from relation_source s where s.workspace_id = $1 and s.relation_id = p.key)
     then 'without a source' end
"""

# against what ingest tells. What this service has newer news of, or a job on its way, is left alone
_TOLD = """
select i.document_id, case
    when exists (select from held_key k where k.topic = 'kgl.documents' and k.key = i.document_id::text) then null
    when i.deleted then case when d.document_id is not null and d.deleted_at is null then 'is deleted at its source' end
    when d.deleted_at is not null or d.version > i.version or i.parsed is null or d.parsed_version > i.parsed then null
    when exists (select from job j where j.kind = 'graph.index' and j.state in ('queued', 'running')
                   and j.data ->> 'document_id' = i.document_id::text) then null
    when x.version is distinct from i.parsed then 'version ' || i.parsed || ' cannot be found'
    when i.chunks <> c.mine or c.mine <> c.every then 'the chunks of version ' || i.parsed || ' are not all there'
    end as state
from unnest($2::uuid[], $3::int[], $4::bool[], $5::int[], $6::int[]) as i(document_id, version, deleted, parsed, chunks)
left join document d on d.workspace_id = $1 and d.document_id = i.document_id
left join indexed_document x on x.workspace_id = $1 and x.document_id = i.document_id
left join lateral (
    select count(*) filter (where version = i.parsed) as mine, count(*) as every
    from chunk where workspace_id = $1 and document_id = i.document_id
) c on true
"""

_INDEXED = """
select x.document_id, x.version,
    array(select id from chunk c
          where c.workspace_id = $1 and c.document_id = x.document_id and c.version = x.version) as chunks,
    exists (select from job j where j.kind in ('graph.index', 'graph.forget', 'graph.embed')
              and j.state in ('queued', 'running') and j.data ->> 'document_id' = x.document_id::text) as busy
from indexed_document x where x.workspace_id = $1 and x.document_id > $2 order by x.document_id limit $3
"""

_USELESS = """
select i.document_id, i.version, d.deleted_at is not null as gone
from unnest($2::uuid[], $3::int[]) as i(document_id, version)
join document d on d.workspace_id = $1 and d.document_id = i.document_id
left join indexed_document x on x.workspace_id = $1 and x.document_id = i.document_id
where (d.deleted_at is not null or i.version < x.version)
  and not exists (select from job j where j.kind in ('graph.index', 'graph.forget')
                    and j.state in ('queued', 'running') and j.data ->> 'document_id' = i.document_id::text)
"""

_RESULTS = """
select r.id, r.document_id, r.version, r.module, r.result_object, r.result_sha256, r.operation_id
from ai_request r join document d on d.workspace_id = r.workspace_id and d.document_id = r.document_id
where r.workspace_id = $1 and r.document_id = any($2::uuid[]) and r.capability = 'extract' and r.state = 'done'
  and r.result_object is not null and d.deleted_at is null and r.version = d.parsed_version
order by r.document_id, r.module
"""


async def gone(tx: Transaction, documents: Sequence[UUID]) -> list[UUID]:
    """Those of these documents that are deleted, or that were never heard of."""
    rows = await tx.fetch(
        """select i.id from unnest($2::uuid[]) as i(id)
           where not exists (select from document d where d.workspace_id = $1 and d.document_id = i.id
                               and d.deleted_at is null) order by i.id""",
        tx.workspace,
        list(documents),
    )
    return [row["id"] for row in rows]


async def results(tx: Transaction, documents: Sequence[UUID]) -> list[asyncpg.Record]:
    """What modules said of the newest parsed versions of these documents: where it lies, and its hash."""
    return await tx.fetch(_RESULTS, tx.workspace, list(documents))


async def differing(tx: Transaction, parts: Sequence[DocumentSnapshotted]) -> list[tuple[UUID, str]]:
    """Documents that are not here as ingest tells of them, and how."""
    rows = await tx.fetch(
        _TOLD,
        tx.workspace,
        [part.document_id for part in parts],
        [part.version for part in parts],
        [part.deleted for part in parts],
        [part.parsed_version for part in parts],
        [part.chunk_count for part in parts],
    )
    return [(row["document_id"], row["state"]) for row in rows if row["state"] is not None]


async def known_documents(tx: Transaction, after: UUID, limit: int) -> list[UUID]:
    """The next living documents after this one."""
    rows = await tx.fetch(
        """select document_id from document where workspace_id = $1 and document_id > $2 and deleted_at is null
           order by document_id limit $3""",
        tx.workspace,
        after,
        limit,
    )
    return [row["document_id"] for row in rows]


async def indexed(tx: Transaction, after: UUID, limit: int) -> list[asyncpg.Record]:
    """The next searchable versions with the ids of their chunks, and whether a job is about to change them."""
    return await tx.fetch(_INDEXED, tx.workspace, after, limit)


async def useless(tx: Transaction, versions: Sequence[tuple[UUID, int]]) -> list[asyncpg.Record]:
    """Those of these versions whose vectors nobody will need or take away any more."""
    documents, numbers = [document for document, _ in versions], [version for _, version in versions]
    return await tx.fetch(_USELESS, tx.workspace, documents, numbers)


async def speaking_documents(tx: Transaction, after: UUID, limit: int) -> list[UUID]:
    """The next documents after this one of which something is said: a mention, a name or a relation."""
    tables = ("mention", "entity_source", "relation_source")
    parts = " union ".join(
        f"(select distinct document_id from {table} where workspace_id = $1 and document_id > $2 order by 1 limit $3)"
        for table in tables
    )
    rows = await tx.fetch(f"{parts} order by document_id limit $3", tx.workspace, after, limit)
    return [row["document_id"] for row in rows]


async def all_entities(tx: Transaction, after: UUID, limit: int) -> list[UUID]:
    """The next entities after this one."""
    sql = "select id from entity where workspace_id = $1 and id > $2 order by id limit $3"
    return [row["id"] for row in await tx.fetch(sql, tx.workspace, after, limit)]


async def all_relations(tx: Transaction, after: UUID, limit: int) -> list[UUID]:
    """The next relations after this one."""
    sql = "select id from relation where workspace_id = $1 and id > $2 order by id limit $3"
    return [row["id"] for row in await tx.fetch(sql, tx.workspace, after, limit)]
