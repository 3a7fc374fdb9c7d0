"""Receipts: what a client gets for an accepted request, and how each stage stands."""

from datetime import datetime, timedelta
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from kgl_contracts.operations import PlannedStage, StageState, Subject

ENDED: frozenset[StageState] = frozenset({"done", "superseded", "skipped", "failed", "cancelled"})
RANK: dict[StageState, int] = {
    "waiting": 0,
    "running": 1,
    "retrying": 2,
    "cancelled": 3,
    "skipped": 4,
    "superseded": 5,
    "failed": 6,
    "done": 7,
}


_OF_EVENTS = frozenset({"unreadable", "rejected", "gap", "too_old", "unknown_version", "dead_again"})


class Stage(BaseModel):
    """One stage of a receipt; times are UTC, `overdue` is visible and alerted but ends nothing.

    Stages that delete tell what they `removed`, and what is `kept_until` when, since it cannot go at once.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    required: bool = True
    state: StageState = "waiting"
    run: int = 1
    attempt: int = 0
    holder: str | None = None
    error: str | None = None
    next_retry_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    deadline_at: datetime | None = None
    overdue: bool = False
    removed: dict[str, int] = {}
    kept_until: dict[str, datetime] = {}

    @property
    def is_dead_letter(self) -> bool:
        """Whether it failed by an event, which is decided about as a dead letter; otherwise its job has failed."""
        error = self.error or ""
        return self.state == "failed" and (error in _OF_EVENTS or error.startswith("handler_"))


class Receipt(BaseModel):
    """An accepted request: its plan and how far it is. Ended when every required stage has, or when one has failed."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    kind: str
    subject: UUID
    subject_type: str
    state: StageState = "running"
    stages: tuple[Stage, ...]
    created_at: datetime
    ended_at: datetime | None = None

    @classmethod
    def planned(
        cls, id: UUID, kind: str, subject: Subject, stages: tuple[PlannedStage, ...], at: datetime
    ) -> "Receipt":
        """The first receipt of an operation: every stage waits."""
        planned = tuple(
            Stage(name=stage.name, required=stage.required, deadline_at=at + timedelta(seconds=stage.deadline_seconds))
            for stage in stages
        )
        return cls(id=id, kind=kind, subject=subject.id, subject_type=subject.type, stages=planned, created_at=at)
