"""Dead letters of all services as they are listed, shown and chosen; and what may be put in place of their data."""

import base64
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from kgl_contracts.catalogue import all_events
from kgl_contracts.dead_letters import Act, LetterState, WaitingEvent
from kgl_contracts.topics import BY_NAME
from kgl_servicekit.errors import Conflict, Invalid, NotFound

MOST_LETTERS = 400  # of one decision: its plan has a stage for each, and is one event
Grouping = Literal["service", "subscription", "topic", "type", "reason", "error", "workspace_id", "day"]
_TYPES = {event.event_type: event for event in all_events()}


class DeadLetterNotFound(NotFound, code="dead_letter_not_found"):
    """There is no such dead letter that you may see; list them again."""


class DeadLetterNotDead(Conflict, code="dead_letter_not_dead"):
    """It is being tried again, or was settled or given up; read it again."""


class DecisionUnderWay(Conflict, code="decision_under_way"):
    """Somebody has just decided about it; read it again to see what became of that."""


class Shown(BaseModel):
    """What is answered."""

    model_config = ConfigDict(frozen=True)


class LetterFilter(BaseModel):
    """Which letters; without a `state` those that are not settled or given up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    service: str | None = None
    subscription: str | None = None
    topic: str | None = None
    type: str | None = None
    reason: str | None = Field(default=None, description="failed, rejected, unreadable, quarantined, too_old or gap")
    error: str | None = Field(default=None, description="a part of the error's text")
    key: str | None = None
    state: LetterState | None = None
    workspace_id: UUID | None = Field(default=None, description="for operators, who see all")
    operation_id: UUID | None = Field(default=None, description="the receipt that the event belongs to")
    dead_at_gte: datetime | None = None
    dead_at_lt: datetime | None = None
    ids: tuple[UUID, ...] | None = Field(default=None, max_length=MOST_LETTERS)

    @property
    def chooses(self) -> bool:
        """Whether it says anything; otherwise it is all letters."""
        return any(value is not None for _, value in self)


class LetterSummary(Shown):
    """A dead letter in a list; `waiting` is how many events wait behind it, 1000 at most are counted."""

    id: UUID
    workspace_id: UUID | None
    service: str
    subscription: str
    topic: str
    type: str | None
    key: str
    event_id: UUID | None
    operation_id: UUID | None
    state: LetterState
    reason: str
    error: str | None
    attempts: int
    waiting: int
    is_corrected: bool
    decision: Act | None = Field(description="the last one; its receipt is `decision_operation`")
    decision_operation: UUID | None
    first_at: datetime
    dead_at: datetime
    moved_at: datetime


class Letter(LetterSummary):
    """A dead letter with its data, as JSON where they are any, and as they came.

    `withheld` data and error may hold text of a workspace that you are no member of, or of nobody knows which;
    they are there to break the glass for.
    `complete` is false where they were too many to be told whole.
    """

    partition: int
    offset: int
    sequence: int | None
    headers: dict[str, str]
    size: int
    complete: bool
    payload: JsonValue = None
    raw: str | None = Field(default=None, description="the data as they came, as base64")
    corrected: JsonValue = None
    withheld: bool = False
    next_waiting: tuple[WaitingEvent, ...]
    note: str | None


class LetterCount(Shown):
    """How many letters have these in common; what was not grouped by is null."""

    count: int
    oldest: datetime
    newest: datetime
    service: str | None = None
    subscription: str | None = None
    topic: str | None = None
    type: str | None = None
    reason: str | None = None
    error: str | None = None
    workspace_id: UUID | None = None
    day: datetime | None = None


def may_carry_text(topic: str) -> bool:
    """Whether events of the topic may hold text of documents: what modules write does, ours never do."""
    return topic not in BY_NAME


def decided_by_operators(topic: str) -> bool:
    """Whether letters of the topic are the instance's business: what services tell each other, roles among it."""
    known = BY_NAME.get(topic)
    return known is not None and not known.public


def json_or_none(data: bytes | None) -> Any:
    """The data as JSON, None where they are not."""
    try:
        return None if data is None else orjson.loads(data)
    except ValueError:
        return None


def raw_text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def corrected_data(type_name: str | None, key: str, topic: str, payload: JsonValue) -> bytes:
    """The data that a payload makes. Raises Invalid with the places where it does not meet the contract."""
    model = _TYPES.get(type_name or "")
    if model is None:
        raise Invalid("The type of this event is not known, so that nothing else can be put in its place; discard it.")
    data = orjson.dumps(payload)
    try:
        event = model.model_validate_json(data)
    except ValidationError as wrong:
        errors = [{"pointer": _pointer(each["loc"]), "detail": each["msg"]} for each in wrong.errors()[:50]]
        raise Invalid(errors=errors) from wrong
    if not may_carry_text(topic) and event.key != key:
        errors = [{"pointer": f"#/payload/{model.key_field}", "detail": f"it has to be {key}, which orders the event"}]
        raise Invalid(errors=errors)
    return data


def _pointer(place: Sequence[str | int]) -> str:
    return "#/payload/" + "/".join(map(str, place))
