"""The shortest path between two entities, level by level from both ends."""

from dataclasses import dataclass
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from kgl_graph.db import reading
from kgl_graph.domain.graph import Entity, EntityNotFound, NoPath, Relation
from kgl_servicekit.database.transaction import Transaction

_LEVEL = 50_000


class Path(BaseModel):
    """Entities from the source to the target, and the relations between them, in order."""

    model_config = ConfigDict(frozen=True)

    length: int
    entities: tuple[Entity, ...]
    relations: tuple[Relation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FindPath:
    """From where to where; `directed` follows relations only from subject to object."""

    source: UUID
    target: UUID
    max_length: int
    directed: bool
    predicate: str | None


async def find_path(tx: Transaction, asked: FindPath) -> Path:
    """One of the shortest paths; raises EntityNotFound, NoPath."""
    ends = await reading.find_entities(tx, [asked.source, asked.target])
    if asked.source not in ends or asked.target not in ends:
        raise EntityNotFound
    steps = [] if asked.source == asked.target else await _search(tx, asked)
    ids = [asked.source]
    for step in steps:
        ids.append(step.object_id if step.subject_id == ids[-1] else step.subject_id)
    found = await reading.find_entities(tx, ids)
    return Path(length=len(steps), entities=tuple(found[id] for id in ids), relations=tuple(steps))


async def _search(tx: Transaction, asked: FindPath) -> list[Relation]:
    """Grow the smaller side by one level until the sides meet."""
    sides: tuple[dict[UUID, Relation | None], ...] = ({asked.source: None}, {asked.target: None})
    frontiers = [{asked.source}, {asked.target}]
    for _ in range(asked.max_length):
        side = 0 if len(frontiers[0]) <= len(frontiers[1]) else 1
        seen, other = sides[side], sides[1 - side]
        grown: set[UUID] = set()
        for relation in await reading.relations_of(
            tx,
            sorted(frontiers[side]),
            outgoing=not asked.directed or side == 0,
            incoming=not asked.directed or side == 1,
            predicate=asked.predicate,
            limit=_LEVEL,
        ):
            for near, far in _ways(relation, directed=asked.directed, backwards=side == 1):
                if near in frontiers[side] and far not in seen:
                    seen[far] = relation
                    grown.add(far)
        meeting = sorted(grown & other.keys())
        if meeting:
            return [*_walk(sides[0], meeting[0])[::-1], *_walk(sides[1], meeting[0])]
        if not grown:
            break
        frontiers[side] = grown
    raise NoPath(max_length=asked.max_length)


def _ways(relation: Relation, *, directed: bool, backwards: bool) -> list[tuple[UUID, UUID]]:
    there, back = (relation.subject_id, relation.object_id), (relation.object_id, relation.subject_id)
    if not directed:
        return [there, back]
    return [back] if backwards else [there]


def _walk(side: dict[UUID, Relation | None], at: UUID) -> list[Relation]:
    """The relations from an entity back to where its side began."""
    steps = []
    while (step := side[at]) is not None:
        steps.append(step)
        at = step.subject_id if step.object_id == at else step.object_id
    return steps
