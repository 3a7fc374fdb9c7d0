"""/graph/v1: triples, entities, neighbours, paths, counts."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from kgl_graph.db import reading
from kgl_graph.domain.graph import Entity, EntityNotFound, NoPath, Triple, folded
from kgl_graph.use_cases.find_path import FindPath, Path, find_path
from kgl_graph.use_cases.put_triples import TriplesPut, put_triples
from kgl_graph.use_cases.read_entity import (
    EntityPage,
    Neighbour,
    ReadEntity,
    ReadNeighbours,
    read_entity,
    read_neighbours,
)
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.http import ApiRouter, Page, PageParams, Run, page

router = ApiRouter(tags=["graph"])


class Triples(BaseModel):
    """Triples to be put into the graph."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    triples: tuple[Triple, ...] = Field(min_length=1, max_length=1000)


class Neighbours(BaseModel):
    """The relations of an entity."""

    model_config = ConfigDict(frozen=True)

    items: tuple[Neighbour, ...]


class Stats(BaseModel):
    """How much the workspace's graph holds."""

    model_config = ConfigDict(frozen=True)

    documents: int
    chunks: int
    entities: int
    relations: int
    mentions: int


class _ListEntities(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str | None
    type: str | None
    after: tuple[str, UUID] | None
    limit: int


@router.post("/triples", permission="graph:write")
async def post_triples(body: Triples, run: Run) -> TriplesPut:
    """Make entities and relations exist, up to 1,000 triples at a time. The same again changes nothing."""
    return await run(put_triples, body.triples)


@router.get("/entities", permission="graph:read")
async def get_entities(
    window: PageParams,
    run: Run,
    name: Annotated[str | None, Query(max_length=200, description="beginning of the name, in any case")] = None,
    type: Annotated[str | None, Query(max_length=64)] = None,
) -> Page[Entity]:
    """Entities by name."""
    after = None if window.position is None else (window.position[0], UUID(window.position[1]))
    asked = _ListEntities(name=None if name is None else folded(name), type=type, after=after, limit=window.fetch)
    found = await run(_list_entities, asked)
    listed = page(found, window.limit, lambda row: [row[0], str(row[1].id)])
    return Page(items=tuple(entity for _, entity in listed.items), next=listed.next)


@router.get("/entities/{entity_id}", permission="graph:read", problems=[EntityNotFound])
async def get_entity(entity_id: UUID, window: PageParams, run: Run) -> EntityPage:
    """One entity with its mentions: document, span and snippet."""
    after = None
    if window.position is not None:
        after = (UUID(window.position[0]), window.position[1], window.position[2])
    return await run(read_entity, ReadEntity(entity_id, after, window.limit))


@router.get("/entities/{entity_id}/neighbours", permission="graph:read", problems=[EntityNotFound])
async def get_neighbours(
    entity_id: UUID,
    run: Run,
    direction: Literal["out", "in", "any"] = "any",
    predicate: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 100,
) -> Neighbours:
    """The relations of an entity, and the entities at their other ends."""
    asked = ReadNeighbours(id=entity_id, direction=direction, predicate=predicate, limit=limit)
    return Neighbours(items=tuple(await run(read_neighbours, asked)))


@router.get("/paths", permission="graph:read", problems=[EntityNotFound, NoPath])
async def get_path(
    source: UUID,
    target: UUID,
    run: Run,
    max_length: Annotated[int, Query(ge=1, le=10)] = 6,
    directed: Annotated[bool, Query(description="follow relations only from subject to object")] = False,
    predicate: Annotated[str | None, Query(max_length=64)] = None,
) -> Path:
    """One of the shortest paths between two entities."""
    asked = FindPath(source=source, target=target, max_length=max_length, directed=directed, predicate=predicate)
    return await run(find_path, asked)


@router.get("/stats", permission="graph:read")
async def get_stats(run: Run) -> Stats:
    """Counts of the workspace's graph."""
    return await run(_stats, None)


async def _list_entities(tx: Transaction, asked: _ListEntities) -> list[tuple[str, Entity]]:
    return await reading.list_entities(tx, prefix=asked.name, type=asked.type, after=asked.after, limit=asked.limit)


async def _stats(tx: Transaction, _: None) -> Stats:
    return Stats(**dict(await reading.stats(tx)))
