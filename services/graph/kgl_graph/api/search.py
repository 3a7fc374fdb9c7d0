"""/graph/v1/search: chunks by words and by meaning."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from kgl_graph.api.outside_of import OutsideOf
from kgl_graph.db import documents
from kgl_graph.domain.ranking import fuse, snippet
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.http import ApiRouter, Caller, Run

router = ApiRouter(prefix="/search", tags=["search"])

_CANDIDATES = 100


class Hit(BaseModel):
    """A chunk that fits; `highlights` are ranges of characters in the snippet."""

    model_config = ConfigDict(frozen=True)

    document_id: UUID
    version: int
    chunk_id: UUID
    ordinal: int
    start: int = Field(description="of the chunk in the document's text")
    end: int
    title: str
    snippet: str
    highlights: tuple[tuple[int, int], ...]
    score: float
    ranks: dict[str, int] = Field(description="place in the ranking by words and by meaning")


class SearchResult(BaseModel):
    """What was found, best first."""

    model_config = ConfigDict(frozen=True)

    hits: tuple[Hit, ...]


@router.get("", permission="graph:read")
async def search(
    q: Annotated[str, Query(min_length=1, max_length=500)],
    caller: Caller,
    run: Run,
    outside: OutsideOf,
    mode: Literal["hybrid", "text", "vector"] = "hybrid",
    limit: Annotated[int, Query(ge=1, le=50)] = 10,
    group: Annotated[Literal["document"] | None, Query(description="only the best chunk of each document")] = None,
) -> SearchResult:
    """Search by words (English stemming) and by meaning; both rankings are fused by reciprocal rank."""
    rankings: dict[str, list[UUID]] = {}
    if mode != "vector":
        rankings["text"] = await run.read(_by_words, q)
    if mode != "text":
        (vector,) = await outside.embedder.embed([q])
        rankings["vector"] = await outside.vectors.search(caller.workspace_id, vector, _CANDIDATES)
    fused = fuse(list(rankings.values()))
    chunks = await run(documents.find_chunks, [id for id, _ in fused])
    hits: list[Hit] = []
    seen: set[UUID] = set()
    for id, score in fused:
        row = chunks.get(id)
        if row is None or (group == "document" and row["document_id"] in seen) or len(hits) == limit:
            continue
        seen.add(row["document_id"])
        cut, _, highlights = snippet(row["text"], q)
        ranks = {name: ranking.index(id) + 1 for name, ranking in rankings.items() if id in ranking}
        hits.append(
            Hit(
                document_id=row["document_id"],
                version=row["version"],
                chunk_id=id,
                ordinal=row["ordinal"],
                start=row["start"],
                end=row["end"],
                title=row["title"],
                snippet=cut,
                highlights=tuple(highlights),
                score=score,
                ranks=ranks,
            )
        )
    return SearchResult(hits=tuple(hits))


async def _by_words(tx: Transaction, words: str) -> list[UUID]:
    return await documents.search_text(tx, words, _CANDIDATES)
