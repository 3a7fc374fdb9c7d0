"""Statements of entities, relations and mentions.

Whoever writes locks the entities first, all in the order of their ids, then the relations: two that share a relation
share its ends. So nobody waits for one who waits for them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import orjson

from kgl_contracts.ai import Span
from kgl_graph.domain.graph import NewEntity, NewRelation, merged
from kgl_servicekit.database.statements import rows_of
from kgl_servicekit.database.transaction import Transaction

_ENTITIES = """
insert into entity as e (workspace_id, id, name, type, folded, aliases, created_at)
select $1, id, name, type, folded, '{}', $6
from unnest($2::uuid[], $3::text[], $4::text[], $5::text[]) as i(id, name, type, folded)
order by id
on conflict (workspace_id, id) do update set folded = e.folded
returning id, (xmax = 0) as created
"""

_NAMINGS = """
insert into entity_source (workspace_id, entity_id, source, document_id, module, name, aliases)
select $1, id, $3, $4, $5, name,
       coalesce((select array_agg(alias) from jsonb_array_elements_text(aliases::jsonb) as alias), '{}')
from unnest($2::uuid[], $6::text[], $7::text[]) as i(id, name, aliases)
on conflict (workspace_id, entity_id, source) do update set name = excluded.name, aliases = excluded.aliases
"""

# the name that most sources use, and every alias that one of them has: whatever order they came in
_SETTLE_NAMES = """
update entity e set name = n.name, aliases = n.aliases
from (
    select i.id,
        (select s.name from entity_source s where s.workspace_id = $1 and s.entity_id = i.id
         group by s.name order by count(*) desc, s.name collate "C" limit 1) as name,
        coalesce((select array_agg(distinct alias collate "C" order by alias collate "C")
                  from entity_source s cross join unnest(s.aliases) as alias
                  where s.workspace_id = $1 and s.entity_id = i.id), '{}') as aliases
    from unnest($2::uuid[]) as i(id)
) n
where e.workspace_id = $1 and e.id = n.id and n.name is not null
  and (e.name, e.aliases) is distinct from (n.name, n.aliases)
"""

_RELATIONS = """
insert into relation as r (workspace_id, id, subject_id, predicate, object_id, created_at)
select $1, id, subject_id, predicate, object_id, $6
from unnest($2::uuid[], $3::uuid[], $4::text[], $5::uuid[]) as i(id, subject_id, predicate, object_id)
order by id
on conflict (workspace_id, id) do update set predicate = r.predicate
returning id, (xmax = 0) as created
"""

_CORRECT = (
    """update entity e set type = i.type, folded = i.folded
       from unnest($2::uuid[], $3::text[], $4::text[]) as i(id, type, folded)
       where e.workspace_id = $1 and e.id = i.id and (e.type, e.folded) is distinct from (i.type, i.folded)""",
    """update relation r set subject_id = i.subject_id, predicate = i.predicate, object_id = i.object_id
       from unnest($2::uuid[], $3::uuid[], $4::text[], $5::uuid[]) as i(id, subject_id, predicate, object_id)
       where r.workspace_id = $1 and r.id = i.id
         and (r.subject_id, r.predicate, r.object_id) is distinct from (i.subject_id, i.predicate, i.object_id)""",
)

_SOURCES = """
insert into relation_source (workspace_id, relation_id, source, document_id, version, module, evidence)
select $1, id, $3, $4, $5, $6, evidence::jsonb from unnest($2::uuid[], $7::text[]) as i(id, evidence)
on conflict (workspace_id, relation_id, source) do update
set version = excluded.version, evidence = excluded.evidence
"""

_MENTIONS = """
insert into mention (workspace_id, entity_id, chunk_id, module, start, "end", document_id, version)
select $1, entity_id, chunk_id, $2, start, stop, $3, $4
from unnest($5::uuid[], $6::uuid[], $7::int[], $8::int[]) as i(entity_id, chunk_id, start, stop)
on conflict do nothing
"""


async def lock_entities(tx: Transaction, ids: Sequence[UUID]) -> None:
    """Lock what there is of these entities, so that nobody removes or revives them meanwhile."""
    await tx.execute(
        "select from entity where workspace_id = $1 and id = any($2::uuid[]) order by id for update",
        tx.workspace,
        list(ids),
    )


async def put_entities(tx: Transaction, entities: Sequence[NewEntity]) -> set[UUID]:
    """Make entities exist and lock them; the answer is which are new. Their names are settled afterwards."""
    unique = {entity.id: entity for entity in entities}
    rows = await tx.fetch(
        _ENTITIES,
        tx.workspace,
        list(unique),
        [entity.name for entity in unique.values()],
        [entity.type for entity in unique.values()],
        [entity.folded for entity in unique.values()],
        tx.now,
    )
    return {row["id"] for row in rows if row["created"]}


async def put_namings(
    tx: Transaction,
    entities: Sequence[NewEntity],
    source: str,
    *,
    document: UUID | None = None,
    module: str | None = None,
) -> None:
    """Note how this source names these entities: one spelling each, and all other names."""
    unique = merged(entities)
    await tx.execute(
        _NAMINGS,
        tx.workspace,
        list(unique),
        source,
        document,
        module,
        [entity.name for entity in unique.values()],
        [orjson.dumps(entity.aliases).decode() for entity in unique.values()],
    )


async def settle_names(tx: Transaction, entities: Iterable[UUID]) -> None:
    """Name these locked entities as their sources do."""
    await tx.execute(_SETTLE_NAMES, tx.workspace, sorted(entities))


async def put_relations(tx: Transaction, relations: Sequence[NewRelation]) -> set[UUID]:
    """Make relations exist; the answer is which are new."""
    unique = {relation.id: relation for relation in relations}
    rows = await tx.fetch(
        _RELATIONS,
        tx.workspace,
        list(unique),
        [relation.subject_id for relation in unique.values()],
        [relation.predicate for relation in unique.values()],
        [relation.object_id for relation in unique.values()],
        tx.now,
    )
    return {row["id"] for row in rows if row["created"]}


async def correct(tx: Transaction, entities: Sequence[NewEntity], relations: Sequence[NewRelation]) -> None:
    """Let these locked rows be what their ids follow from."""
    named = {entity.id: entity for entity in entities}
    stated = {relation.id: relation for relation in relations}
    of_entities, of_relations = _CORRECT
    types, forms = [each.type for each in named.values()], [each.folded for each in named.values()]
    await tx.execute(of_entities, tx.workspace, list(named), types, forms)
    await tx.execute(
        of_relations,
        tx.workspace,
        list(stated),
        [each.subject_id for each in stated.values()],
        [each.predicate for each in stated.values()],
        [each.object_id for each in stated.values()],
    )


async def put_sources(
    tx: Transaction,
    relations: Sequence[NewRelation],
    source: str,
    *,
    document: UUID | None = None,
    version: int | None = None,
    module: str | None = None,
) -> None:
    """Note who says that these relations hold, and where."""
    unique = {relation.id: relation for relation in relations}
    await tx.execute(
        _SOURCES,
        tx.workspace,
        list(unique),
        source,
        document,
        version,
        module,
        [
            orjson.dumps([span.model_dump(mode="json") for span in relation.evidence]).decode()
            for relation in unique.values()
        ],
    )


async def put_mentions(
    tx: Transaction, document: UUID, version: int, module: str, mentions: Sequence[tuple[UUID, Span]]
) -> int:
    """Note where entities are mentioned; the answer is how many places are new."""
    tag = await tx.execute(
        _MENTIONS,
        tx.workspace,
        module,
        document,
        version,
        [entity for entity, _ in mentions],
        [span.chunk_id for _, span in mentions],
        [span.start for _, span in mentions],
        [span.end for _, span in mentions],
    )
    return rows_of(tag)


@dataclass(frozen=True, slots=True)
class Retracted:
    """What a document's modules said no more: the entities and relations concerned, and how many mentions."""

    entities: set[UUID]
    relations: set[UUID]
    mentions: int


async def retract(tx: Transaction, document: UUID, module: str | None) -> Retracted:
    """Take back what a module (or all of them) said of a document."""
    mentions = await tx.execute(
        "delete from mention where workspace_id = $1 and document_id = $2 and ($3::text is null or module = $3)",
        tx.workspace,
        document,
        module,
    )
    named = await tx.fetch(
        """delete from entity_source
           where workspace_id = $1 and document_id = $2 and ($3::text is null or module = $3) returning entity_id""",
        tx.workspace,
        document,
        module,
    )
    stated = await tx.fetch(
        """delete from relation_source
           where workspace_id = $1 and document_id = $2 and ($3::text is null or module = $3) returning relation_id""",
        tx.workspace,
        document,
        module,
    )
    return Retracted({row["entity_id"] for row in named}, {row["relation_id"] for row in stated}, rows_of(mentions))


async def remove_unfounded(tx: Transaction, entities: set[UUID], relations: set[UUID]) -> tuple[int, int]:
    """Remove those of these entities and relations that no source speaks of any more; name the others anew.

    The answer is how many entities and how many relations went.

    A source that states a relation names both of its ends. They are locked before they are looked at, so that
    the look sees what others committed meanwhile.
    """
    await lock_entities(tx, sorted(entities))
    await tx.execute(
        "select from relation where workspace_id = $1 and id = any($2::uuid[]) order by id for update",
        tx.workspace,
        sorted(relations),
    )
    relations_gone = await tx.execute(
        """delete from relation r where workspace_id = $1 and id = any($2::uuid[]) and not exists (
               select from relation_source s where s.workspace_id = r.workspace_id and s.relation_id = r.id)""",
        tx.workspace,
        sorted(relations),
    )
    entities_gone = await tx.execute(
        """delete from entity e where workspace_id = $1 and id = any($2::uuid[])
             and not exists (
               select from entity_source s where s.workspace_id = e.workspace_id and s.entity_id = e.id)""",
        tx.workspace,
        sorted(entities),
    )
    await settle_names(tx, entities)
    return rows_of(entities_gone), rows_of(relations_gone)
