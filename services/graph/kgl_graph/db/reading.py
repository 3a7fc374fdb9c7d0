"""Statements that read the graph."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from kgl_graph.domain.graph import Entity, Relation
from kgl_servicekit.database.transaction import Transaction


async def find_entity(tx: Transaction, entity: UUID) -> Entity | None:
    """One entity."""
    row = await tx.fetchrow(
        "select id, name, type, aliases, created_at from entity where workspace_id = $1 and id = $2",
        tx.workspace,
        entity,
    )
    return None if row is None else Entity(**dict(row))


async def find_entities(tx: Transaction, ids: Sequence[UUID]) -> dict[UUID, Entity]:
    """These entities, by id."""
    rows = await tx.fetch(
        "select id, name, type, aliases, created_at from entity where workspace_id = $1 and id = any($2::uuid[])",
        tx.workspace,
        list(ids),
    )
    return {row["id"]: Entity(**dict(row)) for row in rows}


async def list_entities(
    tx: Transaction, *, prefix: str | None, type: str | None, after: tuple[str, UUID] | None, limit: int
) -> list[tuple[str, Entity]]:
    """Entities with their folded names, in that order."""
    rows = await tx.fetch(
        """select id, name, type, aliases, created_at, folded from entity
           where workspace_id = $1 and ($2::text is null or starts_with(folded, $2))
             and ($3::text is null or type = $3) and ($4::text is null or (folded, id) > ($4, $5))
           order by folded, id limit $6""",
        tx.workspace,
        prefix,
        type,
        *(after or (None, None)),
        limit,
    )
    return [(row["folded"], Entity(**{k: v for k, v in row.items() if k != "folded"})) for row in rows]


async def mentions_of(
    tx: Transaction, entity: UUID, *, after: tuple[UUID, int, int] | None, limit: int
) -> list[asyncpg.Record]:
    """Places where the entity is mentioned, with the text around; `start` and `end` count in the chunk's text."""
    return await tx.fetch(
        """select m.document_id, m.version, m.module, m.chunk_id, m.start, m."end", c.title, c.ordinal,
                  c.start as chunk_start, substr(c.text, greatest(1, m.start - 79), m."end" - m.start + 160) as snippet,
                  m.start - greatest(0, m.start - 80) as snippet_start, c.document_id || ':' as place
           from mention m join chunk c on c.workspace_id = m.workspace_id and c.id = m.chunk_id
           where m.workspace_id = $1 and m.entity_id = $2
             and ($3::uuid is null or (m.chunk_id, m.start, m."end") > ($3, $4, $5))
           order by m.chunk_id, m.start, m."end" limit $6""",
        tx.workspace,
        entity,
        *(after or (None, None, None)),
        limit,
    )


async def count_about(tx: Transaction, entity: UUID) -> asyncpg.Record:
    """How often the entity is mentioned, in how many documents, and its relations by direction and predicate."""
    row = await tx.fetchrow(
        """select (select count(*) from mention where workspace_id = $1 and entity_id = $2) as mentions,
                  (select count(distinct document_id) from mention
                   where workspace_id = $1 and entity_id = $2) as documents,
                  (select coalesce(jsonb_object_agg(predicate, n), '{}') from (
                       select predicate, count(*) as n from relation
                       where workspace_id = $1 and subject_id = $2 group by 1) o) as outgoing,
                  (select coalesce(jsonb_object_agg(predicate, n), '{}') from (
                       select predicate, count(*) as n from relation
                       where workspace_id = $1 and object_id = $2 group by 1) i) as incoming""",
        tx.workspace,
        entity,
    )
    assert row is not None
    return row


async def relations_of(
    tx: Transaction,
    entities: Sequence[UUID],
    *,
    outgoing: bool,
    incoming: bool,
    predicate: str | None,
    limit: int,
) -> list[Relation]:
    """Relations that begin (outgoing) or end (incoming) at one of these entities."""
    rows = await tx.fetch(
        """select id, subject_id, predicate, object_id from relation
           where workspace_id = $1 and ($5::text is null or predicate = $5)
             and (($3 and subject_id = any($2::uuid[])) or ($4 and object_id = any($2::uuid[])))
           order by id limit $6""",
        tx.workspace,
        list(entities),
        outgoing,
        incoming,
        predicate,
        limit,
    )
    return [Relation(**dict(row)) for row in rows]


async def stats(tx: Transaction) -> asyncpg.Record:
    """How much the workspace's graph holds."""
    row = await tx.fetchrow(
        """select (select count(*) from indexed_document where workspace_id = $1) as documents,
                  (select count(*) from chunk where workspace_id = $1) as chunks,
                  (select count(*) from entity where workspace_id = $1) as entities,
                  (select count(*) from relation where workspace_id = $1) as relations,
                  (select count(*) from mention where workspace_id = $1) as mentions""",
        tx.workspace,
    )
    assert row is not None
    return row
