"""What a module found becomes part of the graph, in the place of what it said before."""

from dataclasses import dataclass
from uuid import UUID

from kgl_contracts.ai import Extraction
from kgl_contracts.graph import DocumentLinked, EntityCreated, RelationCreated
from kgl_graph.db import documents, graph
from kgl_graph.domain.graph import NewEntity, NewRelation, new_entity, new_relation
from kgl_servicekit.database import last_results
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import DONE, SUPERSEDED, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkExtraction:
    """A module's result on a document version, and its hash.

    `again` when it was linked before: nobody is told, and rows of the same ids that say something else are corrected.
    """

    document_id: UUID
    version: int
    module: str
    sha256: str
    extraction: Extraction
    again: bool = False


async def link_extraction(tx: Transaction, command: LinkExtraction) -> Verdict:
    """Replace the scope (document, module); a version or result that is not the last any more is superseded."""
    row = await documents.lock(tx, command.document_id)
    if row is None or row["deleted_at"] is not None or row["parsed_version"] != command.version:
        return SUPERSEDED
    scope = (command.document_id, command.module, "extraction", command.version)
    if not await last_results.is_last(tx, *scope, command.sha256):
        return SUPERSEDED
    entities, relations = _graph_of(tx.workspace, command.extraction)
    said = await graph.retract(tx, command.document_id, command.module)
    await graph.lock_entities(tx, sorted({entity.id for entity in entities} | said.entities))
    source = f"document:{command.document_id}:{command.module}"
    await add_to_graph(tx, entities, relations, tell=not command.again)
    if command.again:
        await graph.correct(tx, entities, relations)
    await graph.put_namings(tx, entities, source, document=command.document_id, module=command.module)
    await graph.put_sources(
        tx, relations, source, document=command.document_id, version=command.version, module=command.module
    )
    ids = [new_entity(tx.workspace, entity).id for entity in command.extraction.entities]
    places = [
        (found, span)
        for found, entity in zip(ids, command.extraction.entities, strict=True)
        for span in entity.mentions
    ]
    mentions = await graph.put_mentions(tx, command.document_id, command.version, command.module, places)
    named = {entity.id for entity in entities}
    await graph.settle_names(tx, named)
    await graph.remove_unfounded(tx, said.entities - named, said.relations - {relation.id for relation in relations})
    if command.again:
        return DONE
    await tx.emit(
        DocumentLinked(
            document_id=command.document_id,
            version=command.version,
            module=command.module,
            entities=len(named),
            relations=len({relation.id for relation in relations}),
            mentions=mentions,
        )
    )
    return DONE


async def add_to_graph(
    tx: Transaction, entities: list[NewEntity], relations: list[NewRelation], *, tell: bool = True
) -> tuple[set[UUID], set[UUID]]:
    """Make entities and relations exist and tell of the new ones: the answer is which those are."""
    new_entities = await graph.put_entities(tx, entities)
    new_relations = await graph.put_relations(tx, relations)
    if not tell:
        return new_entities, new_relations
    for entity in {entity.id: entity for entity in entities}.values():
        if entity.id in new_entities:
            await tx.emit(EntityCreated(entity_id=entity.id, type=entity.type))
    for relation in {relation.id: relation for relation in relations}.values():
        if relation.id in new_relations:
            await tx.emit(
                RelationCreated(
                    relation_id=relation.id,
                    subject_id=relation.subject_id,
                    predicate=relation.predicate,
                    object_id=relation.object_id,
                )
            )
    return new_entities, new_relations


def _graph_of(workspace: UUID, extraction: Extraction) -> tuple[list[NewEntity], list[NewRelation]]:
    """All entities (those that relations name, too) and relations of a result."""
    entities = [new_entity(workspace, entity, entity.aliases) for entity in extraction.entities if entity.mentions]
    relations = []
    for relation in extraction.relations:
        entities += [new_entity(workspace, relation.subject), new_entity(workspace, relation.object)]
        relations.append(
            new_relation(workspace, relation.subject, relation.predicate, relation.object, relation.evidence)
        )
    return entities, relations
