"""Requests to AI modules and their results: the values, and the events about them, emitted by graph.

Results are replacements: what a module says of (document, version, module, kind) replaces its last word.
"""

from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kgl_contracts.event import EventData, with_example
from kgl_contracts.topics import AI
from kgl_contracts.values import Name, Predicate, Sha256, TypeName

Capability = Literal["extract", "summarise"]

_DOCUMENT = "0198f3a0-0000-7000-8000-000000000001"
_REQUEST = "0198f3a0-0000-7000-8000-000000000002"
_SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Span(_Value):
    """A place in a document: characters `start` to `end` (exclusive) of the text of one chunk."""

    chunk_id: UUID
    start: int = Field(ge=0)
    end: int = Field(ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> "Span":
        if self.end <= self.start:
            raise ValueError("end must be greater than start")
        return self


class EntityRef(_Value):
    """An entity by its name and type, as the module sees it."""

    name: Name
    type: TypeName


class ExtractedEntity(EntityRef):
    """An entity that the document speaks of, and where."""

    aliases: tuple[Name, ...] = Field(default=(), max_length=50)
    mentions: tuple[Span, ...] = Field(default=(), max_length=1000)


class ExtractedRelation(_Value):
    """A relation that the document states, and where."""

    subject: EntityRef
    predicate: Predicate
    object: EntityRef
    evidence: tuple[Span, ...] = Field(default=(), max_length=100)


class Extraction(_Value):
    """All that a module found in one document version."""

    entities: tuple[ExtractedEntity, ...] = Field(default=(), max_length=5000)
    relations: tuple[ExtractedRelation, ...] = Field(default=(), max_length=5000)


class Summary(_Value):
    """A text that a module wrote about one document version, and what it rests on."""

    title: str = Field(min_length=1, max_length=300)
    text: str = Field(min_length=1, max_length=20_000, description="Markdown")
    sources: tuple[Span, ...] = Field(default=(), max_length=200)


class ExtractionRequested(
    EventData, type="ai.extraction.requested.v1", topic=AI, key="document_id", consumers=("modules",)
):
    """A module is asked for its result on a document version."""

    model_config = with_example(
        request_id=_REQUEST,
        document_id=_DOCUMENT,
        version=1,
        module="reader",
        capability="extract",
        chunks_url=f"/ingest/v1/documents/{_DOCUMENT}/versions/1/chunks",
    )

    request_id: UUID
    document_id: UUID
    version: int = Field(ge=1)
    module: str
    capability: Capability
    chunks_url: str


class ExtractionCompleted(
    EventData, type="ai.extraction.completed.v1", topic=AI, key="document_id", consumers=("graph",)
):
    """A module found entities and relations; the result itself is an immutable object."""

    model_config = with_example(
        request_id=_REQUEST,
        document_id=_DOCUMENT,
        version=1,
        module="reader",
        entities=12,
        relations=3,
        result_object=f"graph/0198f3a0/{_SHA}.json",
        sha256=_SHA,
    )

    request_id: UUID
    document_id: UUID
    version: int = Field(ge=1)
    module: str
    entities: int = Field(ge=0)
    relations: int = Field(ge=0)
    result_object: str = Field(description="object key of the Extraction as JSON")
    sha256: Sha256 = Field(description="hash of the result object")


class ContentGenerated(EventData, type="ai.content.generated.v1", topic=AI, key="document_id", consumers=("content",)):
    """A module wrote a text about a document version; the text itself is an immutable object."""

    model_config = with_example(
        request_id=_REQUEST,
        document_id=_DOCUMENT,
        version=1,
        module="reader",
        kind="summary",
        result_object=f"graph/0198f3a0/{_SHA}.json",
        sha256=_SHA,
    )

    request_id: UUID
    document_id: UUID
    version: int = Field(ge=1)
    module: str
    kind: Literal["summary"]
    result_object: str = Field(description="object key of the Summary as JSON")
    sha256: Sha256 = Field(description="hash of the result object")
