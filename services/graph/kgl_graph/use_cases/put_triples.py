"""Triples that somebody states by hand or script."""

from collections.abc import Sequence
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from kgl_graph.db import graph
from kgl_graph.domain.graph import Triple, new_entity, new_relation
from kgl_graph.use_cases.link_extraction import add_to_graph
from kgl_servicekit.database.transaction import Transaction


class Counts(BaseModel):
    """How many were new, and how many were there already."""

    model_config = ConfigDict(frozen=True)

    created: int
    existing: int


class TriplesPut(BaseModel):
    """What a bulk of triples changed."""

    model_config = ConfigDict(frozen=True)

    entities: Counts
    relations: Counts


async def put_triples(tx: Transaction, triples: Sequence[Triple]) -> TriplesPut:
    """Make the entities and relations exist; the same triples again change nothing."""
    entities = [new_entity(tx.workspace, end) for triple in triples for end in (triple.subject, triple.object)]
    relations = [new_relation(tx.workspace, t.subject, t.predicate, t.object) for t in triples]
    await graph.lock_entities(tx, sorted({entity.id for entity in entities}))
    new_entities, new_relations = await add_to_graph(tx, entities, relations)
    source = f"api:{tx.cause.actor}"
    await graph.put_namings(tx, entities, source)
    await graph.put_sources(tx, relations, source)
    await graph.settle_names(tx, {entity.id for entity in entities})
    return TriplesPut(
        entities=_counts({entity.id for entity in entities}, new_entities),
        relations=_counts({relation.id for relation in relations}, new_relations),
    )


def _counts(all_ids: set[UUID], new: set[UUID]) -> Counts:
    return Counts(created=len(new), existing=len(all_ids) - len(new))
