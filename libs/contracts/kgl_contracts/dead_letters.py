"""Events of dead letters: the service whose event failed tells of it, ingest keeps the list and sends decisions back.

The data of a failed event travel compressed, so that they fit into an event again: `packed` and `unpacked`.
"""

import base64
import binascii
import zlib
from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from kgl_contracts.event import EventData, with_example
from kgl_contracts.topics import DECISIONS, OPERATIONS

LetterState = Literal["dead", "retrying", "settled", "discarded"]
Act = Literal["redrive", "discard", "correct"]

_LETTER = "0198f3a0-0000-5000-8000-000000000014"
_DOCUMENT = "0198f3a0-0000-7000-8000-000000000001"
_WORKSPACE = "0198f3a0-0000-7000-8000-000000000010"
_OPERATION = "0198f3a0-0000-7000-8000-000000000009"
_LARGEST = 4 * 1024 * 1024  # what one record may unpack to


def packed(data: bytes) -> str:
    """Data as the events of dead letters carry them: compressed (zlib), as base64."""
    return base64.b64encode(zlib.compress(data)).decode()


def unpacked(text: str) -> bytes:
    """The data again. Raises ValueError for what `packed` did not make."""
    try:
        return zlib.decompressobj().decompress(base64.b64decode(text, validate=True), _LARGEST)
    except (binascii.Error, zlib.error) as wrong:
        raise ValueError(f"the data cannot be unpacked: {wrong}") from wrong


def stage_of(service: str, act: Act, letter_id: UUID) -> str:
    """The stage of a decision's receipt that one letter is."""
    return f"{service}.{act}.{letter_id}"


class FailedEvent(BaseModel):
    """The event that could not be handled, as far as it could be read, and its place on the bus."""

    model_config = ConfigDict(frozen=True)

    topic: str
    partition: int
    offset: int
    key: str
    id: UUID | None = None
    type: str | None = None
    sequence: int | None = None
    operation_id: UUID | None = None


class WaitingEvent(BaseModel):
    """An event that waits behind the letter, since it has the same key."""

    model_config = ConfigDict(frozen=True)

    id: UUID | None = None
    type: str | None = None
    sequence: int | None = None
    since: datetime


class DeadLetterNoted(
    EventData,
    type="operations.dead_letter.noted.v1",
    topic=OPERATIONS,
    key="letter_id",
    consumers=("ingest",),
):
    """A subscription cannot handle an event; it and what is behind it wait for a decision."""

    model_config = with_example(
        letter_id=_LETTER,
        workspace_id=_WORKSPACE,
        service="graph",
        subscription="graph.documents",
        event={
            "topic": "kgl.documents",
            "partition": 3,
            "offset": 17,
            "key": _DOCUMENT,
            "id": "0198f3a0-0000-7000-8000-000000000013",
            "type": "ingest.document.deleted.v1",
            "sequence": 4,
        },
        reason="failed",
        error="KeyError: 'size'",
        attempts=8,
        headers={"ce_type": "ingest.document.deleted.v1"},
        value="eJyrrgUAAXUA+Q==",
        size=2,
        first_at="2026-11-23T12:00:00Z",
        at="2026-11-23T12:10:00Z",
    )

    letter_id: UUID
    workspace_id: UUID | None = Field(description="of the event; null where it belongs to none, or cannot be read")
    service: str
    subscription: str
    event: FailedEvent
    reason: str = Field(description="failed, rejected, unreadable, quarantined, too_old, gap or unknown_version")
    error: str | None = None
    attempts: int = Field(ge=0)
    headers: dict[str, str]
    value: str = Field(description="its data as they came: zlib, base64")
    size: int = Field(ge=0, description="bytes of the whole data; `value` has fewer where they are too many")
    waiting: int = Field(default=0, ge=0, description="events behind it; 1000 means so many or more")
    next_waiting: tuple[WaitingEvent, ...] = Field(default=(), description="the first of them")
    first_at: datetime = Field(description="of its first failure")
    at: datetime


class DeadLetterMoved(
    EventData,
    type="operations.dead_letter.moved.v1",
    topic=OPERATIONS,
    key="letter_id",
    consumers=("ingest",),
):
    """How a dead letter stands now: tried again, dead again, corrected, settled or given up; or more wait behind it."""

    model_config = with_example(
        letter_id=_LETTER,
        workspace_id=_WORKSPACE,
        state="settled",
        reason="failed",
        attempts=1,
        at="2026-11-23T12:20:00Z",
    )

    letter_id: UUID
    workspace_id: UUID | None
    state: LetterState
    reason: str
    error: str | None = Field(default=None, description="of the last attempt; with `corrected`: no news")
    attempts: int = Field(ge=0)
    waiting: int | None = Field(default=None, ge=0, description="null: no news")
    next_waiting: tuple[WaitingEvent, ...] = ()
    corrected: str | None = Field(default=None, description="the data to handle instead: zlib, base64; null: no news")
    note: str | None = Field(default=None, description="why it was given up")
    at: datetime


class DeadLetterDecided(
    EventData,
    type="ingest.dead_letter.decided.v1",
    topic=DECISIONS,
    key="letter_id",
    consumers=("auth", "ingest", "graph", "content", "publish"),
):
    """Somebody decided about a dead letter; the service that holds it does so, and reports to the receipt."""

    model_config = with_example(
        letter_id=_LETTER,
        service="graph",
        subscription="graph.documents",
        act="redrive",
    )

    letter_id: UUID
    service: str
    subscription: str
    act: Act
    reason: str | None = Field(default=None, description="of a discard")
    value: str | None = Field(default=None, description="of a correction: zlib, base64")
