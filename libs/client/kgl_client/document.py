"""What a module gets to read: a document version in chunks, and the entities that its workspace knows."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from kgl_contracts.values import Name, TypeName


class Chunk(BaseModel):
    """A piece of a document version: characters `start` to `end` (exclusive) of the document's text."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: UUID
    ordinal: int = Field(ge=0)
    start: int = Field(ge=0)
    end: int = Field(ge=0)
    title: str | None = None
    text: str


class KnownEntity(BaseModel):
    """An entity of the workspace's graph."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Name
    type: TypeName
    aliases: tuple[Name, ...] = ()


@dataclass(frozen=True, slots=True)
class DocumentText:
    """One document version, and a way to the entities that its workspace knows."""

    document_id: UUID
    version: int
    workspace_id: UUID
    chunks: tuple[Chunk, ...]
    _known: Callable[[UUID], Awaitable[tuple[KnownEntity, ...]]] = field(repr=False)

    async def known_entities(self) -> tuple[KnownEntity, ...]:
        """The gazetteer of the document's workspace; the same object while nothing has changed."""
        return await self._known(self.workspace_id)
