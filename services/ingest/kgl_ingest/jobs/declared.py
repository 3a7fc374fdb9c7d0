"""The jobs of ingest: their data."""

from uuid import UUID

from kgl_servicekit.jobs.declare import JobData, Jobs

jobs = Jobs()


class ParseDocument(JobData, kind="ingest.parse", stage="ingest.parse"):
    """Make text and chunks of one stored version."""

    document_id: UUID
    version: int
    media_type: str
    charset: str | None
    object_key: str
    title: str | None = None
    """Of jobs of the release before, and null for its workers: it is kept with the version now."""


class EraseDocument(JobData, kind="ingest.erase", stage="ingest.erase"):
    """Remove the objects that belong to a deleted document alone."""

    document_id: UUID
