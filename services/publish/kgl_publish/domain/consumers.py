"""Named consumers: how somebody without the broker reads the events of a workspace, and how far it is."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from kgl_servicekit.errors import Conflict, Gone, Invalid, NotFound

MOST_CONSUMERS = 100
COUNTED = 10_000

Start = Literal["earliest", "latest"]


class ConsumerNotFound(NotFound, code="consumer_not_found", status=404):
    """There is no such consumer in this workspace; make it with PUT."""


class ConsumersTooMany(Conflict, code="consumers_too_many", status=409):
    """A workspace has 100 consumers at most; delete one that is not used."""


class ConsumerLeased(Conflict, code="consumer_leased", status=409):
    """Somebody else works on the last pull; pull again after `leased_until`, or use a consumer of your own."""

    leased_until: str


class LeaseOver(Conflict, code="lease_over", status=409):
    """Somebody pulled after you: your events are theirs now, or handled already. Drop your position, and pull."""


class PositionNotPulled(Invalid, code="position_not_pulled", status=422):
    """This position is beyond what you pulled; `pulled_to` is the highest that you may commit."""

    pulled_to: int


class EventsLost(Gone, code="events_lost", status=410):
    """`lost` events were deleted before this consumer pulled them. Read the present state from the APIs, then
    POST :seek to go on with what is left."""

    lost: int


class EventFilterUnknown(Invalid, code="event_filter_unknown", status=422):
    """`errors` names what is no public topic or event type; asyncapi.yaml lists them."""


class Consumer(BaseModel):
    """A consumer. Empty `topics` or `types` mean all."""

    model_config = ConfigDict(frozen=True)

    name: str
    topics: tuple[str, ...]
    types: tuple[str, ...]
    position: int = Field(description="what was committed; the events after it are still to be handled")
    lag: int = Field(description="events to be handled; counted up to 10000")
    lost: int = Field(description="events that were deleted before they were pulled")
    leased_until: datetime | None = Field(description="until when the last pull is somebody's; null if nobody's")
    created_at: datetime


def _absent(value: Any) -> bool:
    return value is None


class CloudEvent(BaseModel):
    """An event in the JSON format of CloudEvents 1.0.2, with our extension attributes."""

    model_config = ConfigDict(frozen=True)

    specversion: Literal["1.0"] = "1.0"
    id: UUID = Field(description="the same for each repeat; recognise by it what you have handled")
    type: str
    source: str
    time: datetime
    datacontenttype: Literal["application/json"] = "application/json"
    subject: str = Field(description="the key: events of one subject come in order")
    topic: str
    position: int = Field(description="commit this when you are done with the event and all before it")
    workspaceid: UUID
    sequence: int | None = Field(default=None, exclude_if=_absent)
    sourceepoch: int | None = Field(default=None, exclude_if=_absent)
    operationid: UUID | None = Field(default=None, exclude_if=_absent)
    causationid: UUID | None = Field(default=None, exclude_if=_absent)
    actorid: str | None = Field(default=None, exclude_if=_absent)
    traceparent: str | None = Field(default=None, exclude_if=_absent)
    data: dict[str, Any]


class Pulled(BaseModel):
    """Events to be handled, in order; with events comes the token by which they are committed."""

    model_config = ConfigDict(frozen=True)

    events: tuple[CloudEvent, ...]
    token: int | None = Field(description="null when there are no events")
    leased_until: datetime | None
