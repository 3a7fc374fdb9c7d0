"""Events of deliveries, emitted by the publish service."""

from typing import Literal
from uuid import UUID

from pydantic import Field

from kgl_contracts.event import EventData, with_example
from kgl_contracts.topics import PUBLISH, REPLAY_PUBLISH_CONTENT

_DELIVERY = "0198f3a0-0000-5000-8000-000000000007"
_ENDPOINT = "0198f3a0-0000-7000-8000-000000000008"


class DeliverySucceeded(EventData, type="publish.delivery.succeeded.v1", topic=PUBLISH, key="delivery_id"):
    """A receiver acknowledged a delivery."""

    model_config = with_example(delivery_id=_DELIVERY, endpoint_id=_ENDPOINT, status=204, attempts=1)

    delivery_id: UUID
    endpoint_id: UUID
    status: int = Field(description="HTTP status of the receiver's answer")
    attempts: int = Field(ge=1)


class DeliveryFailed(EventData, type="publish.delivery.failed.v1", topic=PUBLISH, key="delivery_id"):
    """A delivery was given up; `outcome` is unknown when the receiver may have acted on it."""

    model_config = with_example(delivery_id=_DELIVERY, endpoint_id=_ENDPOINT, status=500, attempts=8, outcome="refused")

    delivery_id: UUID
    endpoint_id: UUID
    status: int | None = Field(default=None, description="HTTP status of the last answer, if there was one")
    attempts: int = Field(ge=1)
    outcome: Literal["refused", "unknown"]


class ItemsSnapshotRequested(
    EventData,
    type="publish.snapshot.requested.v1",
    topic=REPLAY_PUBLISH_CONTENT,
    key="snapshot_id",
    consumers=("content",),
):
    """Content tells all released items anew, on the same topic."""

    model_config = with_example(snapshot_id="0198f3a0-0000-7000-8000-000000000011")

    snapshot_id: UUID
