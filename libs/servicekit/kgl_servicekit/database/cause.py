"""Why a transaction runs: the request, event or job behind it."""

from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID


class Cause(NamedTuple):
    """What led to a transaction; its id goes into the events as causation, its actor and trace go along.

    `actor` is user:<id>, key:<id> or service:<name>. Identifiers made under an event or a job derive from
    its id, so that a repeat makes the same ones; `at` is an event's own time for the same reason.
    """

    id: UUID
    kind: Literal["request", "event", "job"]
    actor: str
    at: datetime | None = None
    operation_id: UUID | None = None
    traceparent: str | None = None
