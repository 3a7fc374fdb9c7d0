"""Job: one page of a snapshot of all documents."""

from uuid import UUID

from kgl_servicekit.jobs.declare import JobData


class SnapshotDocuments(JobData, kind="ingest.snapshot"):
    """Tell the documents of the job's workspace after this one; `count` were told before."""

    snapshot_id: UUID
    after: UUID
    count: int
