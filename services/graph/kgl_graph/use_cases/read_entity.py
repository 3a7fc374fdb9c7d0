"""The page of an entity: what it is, where it is mentioned, and what it is related to."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from kgl_graph.db import reading
from kgl_graph.domain.graph import Entity, EntityNotFound, Relation
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.ids import encode_cursor


class Mention(BaseModel):
    """A place where an entity is mentioned. `start` and `end` count characters in the chunk's text."""

    model_config = ConfigDict(frozen=True)

    document_id: UUID
    version: int
    module: str
    chunk_id: UUID
    start: int
    end: int
    title: str
    snippet: str
    snippet_start: int = Field(description="where the mention begins in the snippet")


class EntityPage(BaseModel):
    """An entity with a page of its mentions."""

    model_config = ConfigDict(frozen=True)

    entity: Entity
    mention_count: int
    document_count: int
    outgoing: dict[str, int] = Field(description="relations from this entity, by predicate")
    incoming: dict[str, int] = Field(description="relations to this entity, by predicate")
    mentions: tuple[Mention, ...]
    next: str | None = Field(description="cursor of the following mentions")


class Neighbour(BaseModel):
    """A relation of an entity, and the entity at its other end."""

    model_config = ConfigDict(frozen=True)

    relation: Relation
    direction: Literal["out", "in"]
    entity: Entity


@dataclass(frozen=True, slots=True)
class ReadEntity:
    """Which entity, and from where on its mentions are wanted."""

    id: UUID
    after: tuple[UUID, int, int] | None
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadNeighbours:
    """Which relations of which entity."""

    id: UUID
    direction: Literal["out", "in", "any"]
    predicate: str | None
    limit: int


async def read_entity(tx: Transaction, asked: ReadEntity) -> EntityPage:
    """The page of one entity; raises EntityNotFound."""
    entity = await reading.find_entity(tx, asked.id)
    if entity is None:
        raise EntityNotFound
    counts = await reading.count_about(tx, asked.id)
    rows = await reading.mentions_of(tx, asked.id, after=asked.after, limit=asked.limit + 1)
    shown = [Mention(**{name: row[name] for name in Mention.model_fields}) for row in rows[: asked.limit]]
    last = shown[-1] if len(rows) > asked.limit else None
    return EntityPage(
        entity=entity,
        mention_count=counts["mentions"],
        document_count=counts["documents"],
        outgoing=counts["outgoing"],
        incoming=counts["incoming"],
        mentions=tuple(shown),
        next=None if last is None else encode_cursor([str(last.chunk_id), last.start, last.end]),
    )


async def read_neighbours(tx: Transaction, asked: ReadNeighbours) -> list[Neighbour]:
    """Relations of one entity with what they lead to; raises EntityNotFound."""
    if await reading.find_entity(tx, asked.id) is None:
        raise EntityNotFound
    relations = await reading.relations_of(
        tx,
        [asked.id],
        outgoing=asked.direction != "in",
        incoming=asked.direction != "out",
        predicate=asked.predicate,
        limit=asked.limit,
    )
    others = {r.id: r.object_id if r.subject_id == asked.id else r.subject_id for r in relations}
    entities = await reading.find_entities(tx, list(others.values()))
    return [
        Neighbour(
            relation=relation,
            direction="out" if relation.subject_id == asked.id else "in",
            entity=entities[others[relation.id]],
        )
        for relation in relations
    ]
