"""Webhooks in the form of the Standard Webhooks specification 1.0."""

import base64
import secrets
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict

from kgl_contracts.catalogue import all_events
from kgl_contracts.operations import KINDS, OperationEnded, PlannedStage
from kgl_contracts.topics import PUBLISH
from kgl_servicekit.errors import Invalid, NotFound

_DEADLINE = 86400  # seconds; all attempts of a delivery take nearly eight hours


class EndpointNotFound(NotFound, code="endpoint_not_found", status=404):
    """There is no such endpoint in this workspace."""


class DeliveryNotFound(NotFound, code="delivery_not_found", status=404):
    """There is no such delivery in this workspace."""


class EndpointRefused(Invalid, code="endpoint_refused", status=422):
    """This URL may not be reached from here."""


class EventTypeUnknown(Invalid, code="event_type_unknown", status=422):
    """`errors` names what can be sent to no endpoint; asyncapi.yaml lists the types, and `*` means all."""


class Endpoint(BaseModel):
    """Where webhooks go. `disabled` after the receiver answered 410."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    url: str
    description: str
    event_types: tuple[str, ...]
    state: str
    created_at: datetime


class NewEndpoint(Endpoint):
    """An endpoint that was just made: the only time that its secret is shown."""

    secret: str


class Attempt(BaseModel):
    """One attempt. `unknown`: it was sent, and no answer came."""

    model_config = ConfigDict(frozen=True)

    number: int
    at: datetime
    outcome: str
    status: int | None
    milliseconds: int
    detail: str | None


class Delivery(BaseModel):
    """One event for one endpoint; `operation_id` is the receipt that tells how it goes, if there is one."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    endpoint_id: UUID
    event_id: UUID
    event_type: str
    webhook_id: str
    operation_id: UUID | None
    state: str
    attempts: int
    status: int | None
    error: str | None
    next_at: datetime | None
    created_at: datetime
    ended_at: datetime | None


class DeliveryLog(Delivery):
    """A delivery with all its attempts."""

    log: tuple[Attempt, ...]


def of_kind(event_type: str, kind: str) -> str:
    """What an endpoint names to hear of the ends of one kind of operations only."""
    return f"{event_type}:{kind}"


def _deliverable() -> frozenset[str]:
    public = {event.event_type for event in all_events() if event.topic.public and event.topic != PUBLISH}
    ended = OperationEnded.event_type
    return frozenset(public | {"*", ended} | {of_kind(ended, kind) for kind in KINDS})


DELIVERABLE = _deliverable()
"""What an endpoint can ask for: every public type but those about deliveries, and the ends of operations."""


def stage_of(delivery: UUID) -> str:
    """The stage of a receipt that a delivery is."""
    return f"publish.deliver.{delivery}"


def redelivery_plan(delivery: UUID) -> tuple[PlannedStage, ...]:
    """The receipt of a redelivery ends with its last attempt."""
    return (PlannedStage(name=stage_of(delivery), deadline_seconds=_DEADLINE),)


def new_secret() -> str:
    """A signing secret: whsec_ and 32 random bytes in base64."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def frozen_body(event_type: str, at: datetime, data: dict[str, Any]) -> bytes:
    """The body of a webhook; stored, so that every attempt sends the same bytes."""
    return orjson.dumps({"type": event_type, "timestamp": at, "data": data})
