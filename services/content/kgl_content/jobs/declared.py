"""The jobs of content: their data, and what they use of the world outside."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from kgl_servicekit.jobs.declare import JobData, Jobs
from kgl_servicekit.objects.port import ObjectStore

jobs = Jobs()


@dataclass(frozen=True, slots=True)
class Outside:
    """The stores of content, built once by its bootstrap."""

    objects: ObjectStore


class DraftContent(JobData, kind="content.draft"):
    """Make a draft of a module's text."""

    document_id: UUID
    version: int
    module: str
    kind_of_text: Literal["summary"]
    result_object: str
    sha256: str

    def stage_name(self) -> str:
        return f"content.draft.{self.module}"


class SnapshotItems(JobData, kind="content.snapshot"):
    """Tell the released items of the job's workspace after this one; `count` were told before."""

    snapshot_id: UUID
    after: UUID
    count: int
