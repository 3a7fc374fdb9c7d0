"""Why a transaction runs: the request, event or job behind it."""

from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID


class Cause(NamedTuple):
    """What led to a transaction; its id goes into the events as causation, its actor and trace go along.

    `actor` is user:<id>, key:<id> or service:<name>. Identifiers made under an event or a job derive from
    its id, so that a repeat makes the same ones; `at` is an event's own time for the same reason. `run` is that
    of the receipt's stages: one more for each time that a dead letter was tried again.
    """

    id: UUID
    kind: Literal["request", "event", "job"]
    actor: str
    at: datetime | None = None
    operation_id: UUID | None = None
    traceparent: str | None = None
    run: int = 1
