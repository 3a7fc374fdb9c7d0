"""What a document is, how its work is planned, and where its objects lie."""

import re
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from kgl_contracts.ingest import PlannedModule
from kgl_contracts.operations import PlannedStage, Subject
from kgl_servicekit.errors import Conflict, Gone, NotFound
from kgl_servicekit.identity.access import Module
from kgl_servicekit.places import chunks_folder


class OnDuplicate(StrEnum):
    """What to do with content that is in the workspace already."""

    ERROR = "error"
    ACCEPT = "accept"


class DuplicateDocument(Conflict, code="document_duplicate", status=409):
    """The same content is in this workspace already; read it at `existing`, or send on_duplicate=accept."""

    existing: UUID


class DocumentNotFound(NotFound, code="document_not_found", status=404):
    """There is no such document in this workspace; check the id and the workspace."""


class DocumentDeletedAlready(Gone, code="document_deleted", status=410):
    """This document was deleted; what was derived from it is gone or going."""


class VersionNotParsed(Conflict, code="version_not_parsed", status=409):
    """This version has no text yet; wait for its receipt at /operations/v1/{operation_id}."""

    operation_id: UUID


class Document(BaseModel):
    """A document as the API shows it; sizes in bytes, lengths in characters."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    name: str | None
    title: str | None
    state: str
    version: int
    media_type: str
    size: int
    sha256: str
    chunk_count: int | None
    text_length: int | None
    error: str | None
    operation_id: UUID
    created_by: str
    created_at: datetime
    updated_at: datetime


_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_KEY = re.compile(f"ingest/(?P<workspace>{_UUID})/(?:chunks/(?P<document>{_UUID})/(?P<version>[0-9]{{1,9}})/)?")
_STAGES = {"extract": ("graph.extract", "graph.link"), "summarise": ("graph.summarise", "content.draft")}


def planned_modules(modules: Iterable[Module]) -> tuple[PlannedModule, ...]:
    """Modules as they are enabled now, to be kept with the version whose plan counts on them."""
    return tuple(
        PlannedModule(
            name=module.name,
            capabilities=tuple(sorted(module.capabilities)),
            mode=module.mode,
            deadline_seconds=module.deadline_seconds,
        )
        for module in modules
    )


def ingest_plan(modules: Iterable[PlannedModule]) -> list[PlannedStage]:
    """All stages of a document version, over all services, as they are known when it is accepted."""
    stages = [PlannedStage(name="ingest.parse"), PlannedStage(name="graph.index")]
    for module in modules:
        for capability, names in _STAGES.items():
            if capability in module.capabilities:
                stages += [_planned(name, module) for name in names]
    stages.append(PlannedStage(name="publish.live", required=False))
    return stages


def _planned(name: str, module: PlannedModule) -> PlannedStage:
    return PlannedStage(
        name=f"{name}.{module.name}",
        required=module.mode == "required",
        deadline_seconds=module.deadline_seconds,
    )


KEPT_DAYS = {"events": 14, "dead_letters_of_modules": 30, "failed_jobs": 30}
"""What a deletion leaves, and for how many days: on the bus, as its topics are declared, and in the line of jobs.

Events of our services carry ids and no text. What a module sent about the document may carry some: where its event
became a dead letter, or the job that was to take it failed, the data stay there. A failed job goes after its days; a
dead letter has none, since it stays until somebody decides about it.
"""

DELETE_PLAN = (
    PlannedStage(name="ingest.erase"),
    PlannedStage(name="graph.erase"),
    PlannedStage(name="content.unlink"),
)


def subject_of(document: UUID) -> Subject:
    """A document as what an operation works on."""
    return Subject(type="document", id=document)


OBJECTS = "ingest"
"""The folder of the object store that is ours."""


def file_key(workspace: UUID, sha256: str, generation: int) -> str:
    """Where a stored file lies; content is never shared between workspaces."""
    return f"{OBJECTS}/{workspace}/{sha256}/{generation}"


def chunks_key(workspace: UUID, document: UUID, version: int, sha256: str) -> str:
    """Where the immutable chunks of a version lie."""
    return f"{chunks_folder(workspace, document, version)}{sha256}.jsonl"


def text_key(workspace: UUID, document: UUID, version: int, sha256: str) -> str:
    """Where the parsed text of a version lies."""
    return f"{chunks_folder(workspace, document, version)}{sha256}.txt"


def workspace_of_key(key: str) -> UUID | None:
    """Whose object it is; None when it is none of ours."""
    found = _KEY.match(key)
    return UUID(found["workspace"]) if found else None


def version_of_key(key: str) -> tuple[UUID, int] | None:
    """The document version whose chunks or text it is; None when it is neither."""
    found = _KEY.match(key)
    return (UUID(found["document"]), int(found["version"])) if found and found["document"] else None
