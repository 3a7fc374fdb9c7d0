"""Events of receipts: what was accepted, and how far it is. All services emit them; ingest keeps the list.

What failed of an operation is done again by its services when ingest tells them so (`OperationRetried`).

And of snapshots: a service whose derived tables are rebuilt asks the owner of their source to tell it anew.
"""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from kgl_contracts.event import EventData, with_example
from kgl_contracts.topics import DECISIONS, OPERATIONS

EndState = Literal["done", "failed", "cancelled"]
StageState = Literal["waiting", "running", "retrying", "done", "superseded", "skipped", "failed", "cancelled"]

KINDS: tuple[str, ...] = (
    "ingest.document",
    "ingest.delete",
    "content.publish",
    "publish.redeliver",
    "graph.rebuild",
    "publish.rebuild",
    "dead_letter.redrive",
    "dead_letter.correct",
    "dead_letter.discard",
)
"""The kinds of operations; docs/architecture/receipts.md has the stages of each."""

_OPERATION = "0198f3a0-0000-7000-8000-000000000009"
_DOCUMENT = "0198f3a0-0000-7000-8000-000000000001"
_WORKSPACE = "0198f3a0-0000-7000-8000-000000000010"


class Subject(BaseModel):
    """What an operation works on: the type names the resource, as its API does."""

    model_config = ConfigDict(frozen=True)

    type: str
    id: UUID


class PlannedStage(BaseModel):
    """One stage of an operation's plan, frozen at acceptance."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="<service>.<what it does>, such as graph.index")
    required: bool = Field(default=True, description="the operation ends only when this stage has")
    deadline_seconds: int = Field(default=600, ge=1, description="after which the stage shows as overdue")


class OperationStartedV1(
    EventData,
    type="operations.operation.started.v1",
    topic=OPERATIONS,
    key="operation_id",
    consumers=("ingest",),
):
    """A request was accepted, in words that did not say what its subject is; not emitted any more."""

    model_config = with_example(
        operation_id=_OPERATION,
        kind="ingest.document",
        subject=_DOCUMENT,
        stages=[{"name": "ingest.parse"}, {"name": "graph.index"}],
        started_at="2026-11-23T12:00:00Z",
    )

    operation_id: UUID
    kind: str
    subject: str = Field(description="id of what the operation works on")
    stages: tuple[PlannedStage, ...]
    started_at: datetime


class OperationStarted(
    EventData,
    type="operations.operation.started.v2",
    topic=OPERATIONS,
    key="operation_id",
    consumers=("ingest",),
    replaces=OperationStartedV1,
):
    """A request was accepted; its plan says what has to happen."""

    model_config = with_example(
        operation_id=_OPERATION,
        kind="ingest.document",
        subject={"type": "document", "id": _DOCUMENT},
        stages=[{"name": "ingest.parse"}, {"name": "graph.index"}],
        started_at="2026-11-23T12:00:00Z",
    )

    operation_id: UUID
    kind: str
    subject: Subject
    stages: tuple[PlannedStage, ...]
    started_at: datetime

    @classmethod
    def upcast(cls, earlier: OperationStartedV1) -> "OperationStarted":
        """Operations of the first version were all about documents."""
        return cls(
            operation_id=earlier.operation_id,
            kind=earlier.kind,
            subject=Subject.model_validate({"type": "document", "id": earlier.subject}),
            stages=earlier.stages,
            started_at=earlier.started_at,
        )


class Progress(BaseModel):
    """How far one stage of one operation is; the greater (run, attempt, rank of state) wins."""

    model_config = ConfigDict(frozen=True)

    workspace_id: UUID
    operation_id: UUID
    stage: str
    state: StageState
    run: int = Field(default=1, ge=1, description="1, and one more each time a failed stage is reopened")
    attempt: int = Field(default=1, ge=1)
    holder: str | None = Field(default=None, description="who works on it")
    error: str | None = Field(default=None, description="stable code of the last failure")
    next_retry_at: datetime | None = None
    removed: dict[str, int] = Field(default={}, description="what a deletion took away: how many of each kind")
    kept_until: dict[str, datetime] = Field(
        default={}, description="what a deletion cannot take away at once, and when it is gone"
    )
    at: datetime


class ReceiptProgressed(
    EventData,
    type="operations.receipt.progressed.v1",
    topic=OPERATIONS,
    key="reporter",
    consumers=("ingest", "publish"),
):
    """What one transaction of one worker moved on; it may speak of many workspaces."""

    model_config = with_example(
        reporter="graph/graph.index/1",
        entries=[
            {
                "workspace_id": _WORKSPACE,
                "operation_id": _OPERATION,
                "stage": "graph.index",
                "state": "done",
                "at": "2026-11-23T12:00:01Z",
            }
        ],
    )

    reporter: str = Field(description="<service>/<subscription or job class>/<partition or worker>")
    entries: tuple[Progress, ...] = Field(min_length=1)


class StageFailure(BaseModel):
    """A required stage that failed."""

    model_config = ConfigDict(frozen=True)

    stage: str
    error: str | None = Field(default=None, description="stable code of the failure")


class OperationEnded(
    EventData,
    type="operations.operation.ended.v1",
    topic=OPERATIONS,
    key="operation_id",
    consumers=("publish",),
):
    """All required stages of an operation have ended, or one has failed; its receipt has the rest.

    A failed one that is tried again and ends otherwise is told of again.
    """

    model_config = with_example(
        operation_id=_OPERATION,
        kind="ingest.document",
        subject={"type": "document", "id": _DOCUMENT},
        state="done",
        failures=[],
        started_at="2026-11-23T12:00:00Z",
        ended_at="2026-11-23T12:00:03Z",
    )

    operation_id: UUID
    kind: str
    subject: Subject
    state: EndState
    failures: tuple[StageFailure, ...] = Field(description="the first of them, 20 at most")
    started_at: datetime
    ended_at: datetime


class OperationRetried(
    EventData,
    type="ingest.operation.retried.v1",
    topic=DECISIONS,
    key="operation_id",
    consumers=("auth", "ingest", "graph", "content", "publish"),
):
    """Somebody wants the failed jobs of an operation done again; each of the services queues its own."""

    model_config = with_example(operation_id=_OPERATION, services=["graph"])

    operation_id: UUID
    services: tuple[str, ...] = Field(min_length=1, description="whose stages of it have failed")


class SnapshotRequested(
    EventData,
    type="operations.snapshot.requested.v1",
    topic=OPERATIONS,
    key="snapshot_id",
    consumers=("ingest",),
):
    """The owner of what a subscription reads tells its present state anew, on kgl.replay.<subscription>."""

    model_config = with_example(snapshot_id=_OPERATION, subscription="graph.documents")

    snapshot_id: UUID
    subscription: str


class SnapshotPart(EventData):
    """One record of a snapshot: the present state of its key, or that it is gone."""

    snapshot_id: UUID


class SnapshotEnd(SnapshotPart):
    """The snapshot is complete when so many parts of it, repeats not counted, have been read."""

    count: int = Field(ge=0)
