"""Events of documents, emitted by the ingest service."""

from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from kgl_contracts.event import EventData, with_example
from kgl_contracts.operations import SnapshotEnd, SnapshotPart
from kgl_contracts.topics import DOCUMENTS, REPLAY_GRAPH_DOCUMENTS
from kgl_contracts.values import Sha256

_DOCUMENT = "0198f3a0-0000-7000-8000-000000000001"
_SNAPSHOT = "0198f3a0-0000-7000-8000-000000000011"
_SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def chunks_url(document: UUID | str, version: int) -> str:
    """Where a reader with documents:read streams the chunks of a document version."""
    return f"/ingest/v1/documents/{document}/versions/{version}/chunks"


class PlannedModule(BaseModel):
    """A module that the plan of a document version counts on, as it was enabled when the version was accepted."""

    model_config = ConfigDict(frozen=True)

    name: str
    capabilities: tuple[str, ...]
    mode: Literal["required", "optional"]
    deadline_seconds: int = Field(ge=1)


class DocumentAccepted(
    EventData, type="ingest.document.accepted.v1", topic=DOCUMENTS, key="document_id", consumers=("graph",)
):
    """A document version is stored and will be parsed."""

    model_config = with_example(document_id=_DOCUMENT, version=1, media_type="text/markdown", size=5120, sha256=_SHA)

    document_id: UUID
    version: int = Field(ge=1, description="1 for the first upload, then one more for each new content")
    media_type: str
    size: int = Field(ge=0, description="bytes of the stored file")
    sha256: Sha256 = Field(description="hash of the stored file")


class DocumentParsed(
    EventData,
    type="ingest.document.parsed.v1",
    topic=DOCUMENTS,
    key="document_id",
    consumers=("graph", "content"),
):
    """The text of a document version is ready to read in chunks."""

    model_config = with_example(
        document_id=_DOCUMENT,
        version=1,
        chunk_count=7,
        text_length=5000,
        chunks_url=chunks_url(_DOCUMENT, 1),
        chunks_object=f"ingest/0198f3a0/{_SHA}/chunks.jsonl",
        sha256=_SHA,
        modules=[
            {
                "name": "reader",
                "capabilities": ["extract", "summarise"],
                "mode": "required",
                "deadline_seconds": 600,
            }
        ],
    )

    document_id: UUID
    version: int = Field(ge=1)
    chunk_count: int = Field(ge=0)
    text_length: int = Field(ge=0, description="characters of the parsed text")
    chunks_url: str = Field(description="where a reader with documents:read streams the chunks, JSON Lines")
    chunks_object: str = Field(description="object key of the same chunks, for services with a read credential")
    sha256: Sha256 = Field(description="hash of the chunks object")
    modules: tuple[PlannedModule, ...] | None = Field(
        default=None, description="those that the plan of this version counts on; null where no plan was kept"
    )


class DocumentCancelled(
    EventData, type="ingest.document.cancelled.v1", topic=DOCUMENTS, key="document_id", consumers=("graph",)
):
    """Somebody cancelled the work on a parsed version: what no module has answered is wanted no more.

    The version stays, searchable and with what was made of the answers that had come.
    """

    model_config = with_example(document_id=_DOCUMENT, version=1)

    document_id: UUID
    version: int = Field(ge=1)


class DocumentDeleted(
    EventData,
    type="ingest.document.deleted.v1",
    topic=DOCUMENTS,
    key="document_id",
    consumers=("graph", "content"),
):
    """A document with all its versions is gone; everything derived from it follows."""

    model_config = with_example(document_id=_DOCUMENT, version=2)

    document_id: UUID
    version: int = Field(ge=1, description="the last version that existed")


class DocumentSnapshotted(
    SnapshotPart,
    type="ingest.document.snapshotted.v1",
    topic=REPLAY_GRAPH_DOCUMENTS,
    key="document_id",
    consumers=("graph",),
):
    """How a document stands: its newest parsed version, if it has one and is not deleted."""

    model_config = with_example(
        snapshot_id=_SNAPSHOT,
        document_id=_DOCUMENT,
        version=2,
        deleted=False,
        parsed_version=1,
        chunks_object=f"ingest/0198f3a0/{_SHA}/chunks.jsonl",
        sha256=_SHA,
        chunk_count=7,
    )

    document_id: UUID
    version: int = Field(ge=1, description="the newest version, parsed or not")
    deleted: bool
    parsed_version: int | None = Field(description="the newest version with text")
    chunks_object: str | None = Field(description="object key of its chunks")
    sha256: Sha256 | None = Field(description="hash of the chunks object")
    chunk_count: int | None = Field(default=None, ge=0, description="how many chunks that version has")


class DocumentsSnapshotEnded(
    SnapshotEnd,
    type="ingest.snapshot.ended.v1",
    topic=REPLAY_GRAPH_DOCUMENTS,
    key="snapshot_id",
    consumers=("graph",),
):
    """All documents of all workspaces were told."""

    model_config = with_example(snapshot_id=_SNAPSHOT, count=1200)
