"""What differs within the tables of graph: states of a key `p.key` in the workspace $1 (`RowCheck`).

A document whose erasure is on its way is left alone.
"""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

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

ENTITY = """
case when not exists (select from entity_source s where s.workspace_id = $1 and s.entity_id = p.key)
     then 'without a source' end
"""

RELATION = """
case when not exists (select from relation_source s where s.workspace_id = $1 and s.relation_id = p.key)
     then 'without a source' end
"""

_RESULTS = """
select r.document_id, r.version, r.module, r.result_object, r.result_sha256, r.operation_id
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
