"""The jobs of graph: their data."""

from uuid import UUID

from kgl_contracts.ai import Extraction, Summary
from kgl_servicekit.jobs.declare import JobData, Jobs

jobs = Jobs()

EVERY_VERSION = 2**31 - 1


class IndexDocument(JobData, kind="graph.index", stage="graph.index"):
    """Make a document version searchable."""

    document_id: UUID
    version: int
    chunks_object: str
    sha256: str


class EmbedChunks(JobData, kind="graph.embed"):
    """Make the vectors of a searchable version again, from its chunks."""

    document_id: UUID
    version: int


class LinkDocument(JobData, kind="graph.link"):
    """Make what a module found part of the graph."""

    document_id: UUID
    version: int
    module: str
    result_object: str
    sha256: str

    def stage_name(self) -> str:
        return f"graph.link.{self.module}"


class TakeGiven(JobData, kind="graph.take"):
    """Take in what a module gave by an event."""

    request_id: UUID
    module: str
    result: Extraction | Summary


class ForgetVectors(JobData, kind="graph.forget"):
    """Forget the vectors of a document's versions before this one; for a deleted document it ends the erasure."""

    document_id: UUID
    below_version: int

    def stage_name(self) -> str | None:
        return "graph.erase" if self.below_version == EVERY_VERSION else None
