"""/publish/v1/endpoints and /deliveries: webhooks."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from kgl_publish.db import deliveries
from kgl_publish.domain.addresses import UrlRefused
from kgl_publish.domain.webhooks import (
    DELIVERABLE,
    Delivery,
    DeliveryLog,
    DeliveryNotFound,
    Endpoint,
    EndpointNotFound,
    EndpointRefused,
    EventTypeUnknown,
    NewEndpoint,
    new_secret,
)
from kgl_publish.jobs.declared import Outside
from kgl_publish.stores.egress import SendImpossible
from kgl_publish.use_cases.record_attempt import redeliver
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.http import ApiRouter, Page, PageParams, Reply, Run, page

router = ApiRouter(tags=["webhooks"])


class EndpointBody(BaseModel):
    """Where webhooks shall go, and for which event types (`*` for all).

    `operations.operation.ended.v1` tells of each operation that ends, `operations.operation.ended.v1:ingest.document`
    of those of one kind.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(max_length=2000)
    event_types: tuple[str, ...] = Field(min_length=1, max_length=50)
    description: str = Field(default="", max_length=300)


class Endpoints(BaseModel):
    """All endpoints of a workspace."""

    model_config = ConfigDict(frozen=True)

    items: tuple[Endpoint, ...]


class _ListDeliveries(BaseModel):
    limit: int
    before: tuple[datetime, UUID] | None
    endpoint: UUID | None
    state: str | None
    event_type: str | None


@router.post(
    "/endpoints",
    status_code=201,
    permission="publish:write",
    problems=[EndpointRefused, EventTypeUnknown],
    secret_answer=True,
)
async def create_endpoint(body: EndpointBody, request: Request, run: Run) -> NewEndpoint:
    """Register an endpoint. The answer holds the signing secret, which is not shown again."""
    unknown = [n for n, name in enumerate(body.event_types) if name not in DELIVERABLE]
    if unknown:
        raise EventTypeUnknown(
            errors=[{"pointer": f"#/event_types/{n}", "detail": f"{body.event_types[n]!r} is none"} for n in unknown]
        )
    outside: Outside = request.app.state.outside
    try:
        await outside.egress.check(body.url)
    except (UrlRefused, SendImpossible) as refused:
        raise EndpointRefused(str(refused), errors=[{"pointer": "#/url", "detail": str(refused)}]) from refused
    return await run(_create, body)


@router.get("/endpoints", permission="publish:read")
async def get_endpoints(run: Run) -> Endpoints:
    """All endpoints of the workspace."""
    return await run(_endpoints, None)


@router.get("/endpoints/{endpoint_id}", permission="publish:read", problems=[EndpointNotFound])
async def get_endpoint(endpoint_id: UUID, run: Run) -> Endpoint:
    """One endpoint."""
    return await run(_endpoint, endpoint_id)


@router.delete("/endpoints/{endpoint_id}", status_code=204, permission="publish:write", problems=[EndpointNotFound])
async def remove_endpoint(endpoint_id: UUID, run: Run) -> None:
    """Stop sending to an endpoint; deliveries on their way are abandoned."""
    await run(_remove, endpoint_id)


@router.get("/deliveries", permission="publish:read")
async def get_deliveries(
    window: PageParams,
    run: Run,
    endpoint_id: UUID | None = None,
    state: Annotated[str | None, Query(description="pending, delivered, failed or abandoned")] = None,
    event_type: str | None = None,
) -> Page[Delivery]:
    """Deliveries, newest first."""
    before = None
    if window.position is not None:
        before = (datetime.fromisoformat(window.position[0]), UUID(window.position[1]))
    asked = _ListDeliveries(limit=window.fetch, before=before, endpoint=endpoint_id, state=state, event_type=event_type)
    found = await run(_deliveries, asked)
    return page(found, window.limit, lambda row: [row.created_at.isoformat(), str(row.id)])


@router.get("/deliveries/{delivery_id}", permission="publish:read", problems=[DeliveryNotFound])
async def get_delivery(delivery_id: UUID, run: Run) -> DeliveryLog:
    """One delivery with the log of its attempts."""
    return await run(_delivery, delivery_id)


@router.post(
    "/deliveries/{delivery_id}:redeliver",
    status_code=202,
    permission="publish:write",
    problems=[DeliveryNotFound],
)
async def redeliver_delivery(delivery_id: UUID, run: Run) -> Delivery:
    """Send a delivery once more, with the same id and bytes; the receipt ends when it has arrived or is given up."""
    return await run(redeliver, delivery_id, reply=_with_receipt)


def _with_receipt(delivery: Delivery) -> Reply:
    return Reply(headers={"Location": f"/operations/v1/{delivery.operation_id}"})


async def _create(tx: Transaction, body: EndpointBody) -> NewEndpoint:
    known: dict[str, Any] = {
        "id": tx.new_id("endpoint"),
        "url": body.url,
        "description": body.description,
        "event_types": body.event_types,
        "state": "enabled",
        "created_at": tx.now,
    }
    secret = new_secret()
    await deliveries.add_endpoint(tx, Endpoint(**known), secret)
    await tx.audit("endpoint.create", f"endpoint:{known['id']}", details={"url": body.url})
    return NewEndpoint(**known, secret=secret)


async def _endpoints(tx: Transaction, _: None) -> Endpoints:
    return Endpoints(items=tuple(await deliveries.list_endpoints(tx)))


async def _endpoint(tx: Transaction, endpoint_id: UUID) -> Endpoint:
    found = await deliveries.find_endpoint(tx, endpoint_id)
    if found is None:
        raise EndpointNotFound
    return found


async def _remove(tx: Transaction, endpoint_id: UUID) -> None:
    if not await deliveries.remove_endpoint(tx, endpoint_id):
        raise EndpointNotFound
    await tx.audit("endpoint.delete", f"endpoint:{endpoint_id}")


async def _deliveries(tx: Transaction, asked: _ListDeliveries) -> list[Delivery]:
    return list(
        await deliveries.list_deliveries(
            tx,
            limit=asked.limit,
            before=asked.before,
            endpoint=asked.endpoint,
            state=asked.state,
            event_type=asked.event_type,
        )
    )


async def _delivery(tx: Transaction, delivery_id: UUID) -> DeliveryLog:
    found = await deliveries.find_delivery(tx, delivery_id)
    if found is None:
        raise DeliveryNotFound
    return DeliveryLog(**found.model_dump(), log=tuple(await deliveries.attempts_of(tx, delivery_id)))
