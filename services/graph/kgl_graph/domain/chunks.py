"""The chunks of a document version, as ingest stores them: JSON Lines."""

from uuid import UUID

from pydantic import BaseModel, ConfigDict


class Chunk(BaseModel):
    """One chunk; `start` and `end` are characters of the document's text."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: UUID
    ordinal: int
    start: int
    end: int
    title: str | None
    text: str


def read_chunks(lines: bytes) -> list[Chunk]:
    """All chunks of an object; raises ValidationError for what is none."""
    return [Chunk.model_validate_json(line) for line in lines.splitlines() if line.strip()]
