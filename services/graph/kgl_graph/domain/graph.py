"""Entities and relations: how they are named, and so identified."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from kgl_contracts.ai import EntityRef, Span
from kgl_contracts.values import Predicate
from kgl_servicekit.errors import NotFound
from kgl_servicekit.ids import derived_id


class EntityNotFound(NotFound, code="entity_not_found", status=404):
    """There is no such entity in this workspace; GET /graph/v1/entities finds it by name."""


class NoPath(NotFound, code="no_path", status=404):
    """No path of at most `max_length` steps leads from one entity to the other."""

    max_length: int


class Triple(BaseModel):
    """Two entities and how they are related."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: EntityRef
    predicate: Predicate
    object: EntityRef


class Entity(BaseModel):
    """An entity of the graph."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    name: str
    type: str
    aliases: tuple[str, ...] = ()
    created_at: datetime


class Relation(BaseModel):
    """A relation of the graph."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    subject_id: UUID
    predicate: str
    object_id: UUID


@dataclass(frozen=True, slots=True)
class NewEntity:
    """An entity as somebody names it."""

    id: UUID
    name: str
    type: str
    folded: str
    aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NewRelation:
    """A relation as somebody states it, and where."""

    id: UUID
    subject_id: UUID
    predicate: str
    object_id: UUID
    evidence: tuple[Span, ...]


def folded(name: str) -> str:
    """The form by which names are compared: compatibility forms, case and spaces folded."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def entity_id(workspace: UUID, ref: EntityRef) -> UUID:
    """The same name and type are the same entity of a workspace."""
    return derived_id("entity", workspace, ref.type, folded(ref.name))


def new_entity(workspace: UUID, ref: EntityRef, aliases: tuple[str, ...] = ()) -> NewEntity:
    """An entity to be, from how it is named."""
    others = tuple(dict.fromkeys(alias for alias in aliases if folded(alias) != folded(ref.name)))
    return NewEntity(entity_id(workspace, ref), ref.name, ref.type, folded(ref.name), others)


def merged(entities: Iterable[NewEntity]) -> dict[UUID, NewEntity]:
    """Each entity once, by id: as it is named first, with all aliases that it is given."""
    found: dict[UUID, NewEntity] = {}
    for entity in entities:
        known = found.setdefault(entity.id, entity)
        found[entity.id] = replace(known, aliases=tuple(dict.fromkeys(known.aliases + entity.aliases)))
    return found


def new_relation(
    workspace: UUID, subject: EntityRef, predicate: str, object_: EntityRef, evidence: tuple[Span, ...] = ()
) -> NewRelation:
    """A relation to be, from how its ends are named."""
    ends = entity_id(workspace, subject), entity_id(workspace, object_)
    return NewRelation(
        derived_id("relation", workspace, ends[0], predicate, ends[1]), ends[0], predicate, ends[1], evidence
    )
