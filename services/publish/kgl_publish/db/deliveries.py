"""Statements of endpoints and deliveries."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from kgl_publish.domain.webhooks import Attempt, Delivery, Endpoint
from kgl_servicekit.database.transaction import Transaction

_DELIVERY = ", ".join(Delivery.model_fields)
_ENDPOINT = ", ".join(Endpoint.model_fields)


async def add_endpoint(tx: Transaction, endpoint: Endpoint, secret: str) -> None:
    """A new endpoint."""
    await tx.execute(
        """insert into endpoint (workspace_id, id, url, description, event_types, secret, state, created_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8)""",
        tx.workspace,
        endpoint.id,
        endpoint.url,
        endpoint.description,
        list(endpoint.event_types),
        secret,
        endpoint.state,
        endpoint.created_at,
    )


async def find_endpoint(tx: Transaction, endpoint: UUID) -> Endpoint | None:
    """One endpoint."""
    row = await tx.fetchrow(
        f"select {_ENDPOINT} from endpoint where workspace_id = $1 and id = $2", tx.workspace, endpoint
    )
    return None if row is None else Endpoint(**dict(row))


async def list_endpoints(tx: Transaction) -> list[Endpoint]:
    """All endpoints of the workspace."""
    rows = await tx.fetch(
        f"select {_ENDPOINT} from endpoint where workspace_id = $1 order by created_at, id", tx.workspace
    )
    return [Endpoint(**dict(row)) for row in rows]


async def remove_endpoint(tx: Transaction, endpoint: UUID) -> bool:
    """The endpoint gets nothing any more; False when there is none."""
    tag = await tx.execute("delete from endpoint where workspace_id = $1 and id = $2", tx.workspace, endpoint)
    return tag == "DELETE 1"


async def disable_endpoint(tx: Transaction, endpoint: UUID) -> None:
    """The receiver wants nothing any more."""
    await tx.execute(
        "update endpoint set state = 'disabled' where workspace_id = $1 and id = $2", tx.workspace, endpoint
    )


async def endpoints_for(tx: Transaction, names: Sequence[str]) -> list[UUID]:
    """The enabled endpoints that want one of these types, or all."""
    rows = await tx.fetch(
        """select id from endpoint where workspace_id = $1 and state = 'enabled' and event_types && $2::varchar[]
           order by id""",
        tx.workspace,
        [*names, "*"],
    )
    return [row["id"] for row in rows]


async def add_delivery(
    tx: Transaction,
    delivery: UUID,
    endpoint: UUID,
    event_id: UUID,
    event_type: str,
    body: bytes,
    operation: UUID | None,
) -> bool:
    """A new delivery with its frozen body; False when this event is on its way to this endpoint already."""
    tag = await tx.execute(
        """insert into delivery (workspace_id, id, endpoint_id, event_id, event_type, webhook_id, body, state,
                                 attempts, created_at, operation_id)
           values ($1, $2, $3, $4, $5, $6, $7, 'pending', 0, $8, $9) on conflict do nothing""",
        tx.workspace,
        delivery,
        endpoint,
        event_id,
        event_type,
        f"msg_{delivery.hex}",
        body,
        tx.now,
        operation,
    )
    return tag == "INSERT 0 1"


async def to_send(tx: Transaction, delivery: UUID) -> asyncpg.Record | None:
    """A delivery with its endpoint's url, secret and state (None when the endpoint is gone)."""
    return await tx.fetchrow(
        """select d.id, d.endpoint_id, d.webhook_id, d.body, d.state, d.attempts, e.url, e.secret,
                  e.state as endpoint_state
           from delivery d left join endpoint e on e.workspace_id = d.workspace_id and e.id = d.endpoint_id
           where d.workspace_id = $1 and d.id = $2""",
        tx.workspace,
        delivery,
    )


async def log_attempt(
    tx: Transaction, delivery: UUID, attempt: Attempt, state: str, next_at: datetime | None
) -> UUID | None:
    """Note one attempt, and where the delivery stands after it; the answer is the operation that waits for it."""
    await tx.execute(
        """insert into delivery_attempt (workspace_id, delivery_id, number, at, outcome, status, milliseconds, detail)
           values ($1, $2, $3, $4, $5, $6, $7, $8)""",
        tx.workspace,
        delivery,
        attempt.number,
        attempt.at,
        attempt.outcome,
        attempt.status,
        attempt.milliseconds,
        attempt.detail,
    )
    operation: UUID | None = await tx.fetchval(
        """update delivery set state = $3::varchar, attempts = $4, status = $5, error = $6, next_at = $7,
                  ended_at = case when $3::varchar = 'pending' then null else now() end
           where workspace_id = $1 and id = $2 returning operation_id""",
        tx.workspace,
        delivery,
        state,
        attempt.number,
        attempt.status,
        attempt.detail if attempt.outcome != "delivered" else None,
        next_at,
    )
    return operation


async def abandon(tx: Transaction, delivery: UUID) -> UUID | None:
    """The endpoint is gone or disabled: nothing more is sent. The answer is the operation that waits for it."""
    operation: UUID | None = await tx.fetchval(
        """update delivery set state = 'abandoned', ended_at = now(), next_at = null
           where workspace_id = $1 and id = $2 returning operation_id""",
        tx.workspace,
        delivery,
    )
    return operation


async def lock(tx: Transaction, delivery: UUID) -> asyncpg.Record | None:
    """The attempts of a delivery so far, and the operation that waits for it; locked to the end of the transaction."""
    return await tx.fetchrow(
        "select attempts, operation_id from delivery where workspace_id = $1 and id = $2 for update",
        tx.workspace,
        delivery,
    )


async def reopen(tx: Transaction, delivery: UUID, operation: UUID) -> None:
    """The delivery is pending again, and this operation waits for it."""
    await tx.execute(
        """update delivery set state = 'pending', next_at = null, ended_at = null, operation_id = $3
           where workspace_id = $1 and id = $2""",
        tx.workspace,
        delivery,
        operation,
    )


async def find_delivery(tx: Transaction, delivery: UUID) -> Delivery | None:
    """One delivery."""
    row = await tx.fetchrow(
        f"select {_DELIVERY} from delivery where workspace_id = $1 and id = $2", tx.workspace, delivery
    )
    return None if row is None else Delivery(**dict(row))


async def attempts_of(tx: Transaction, delivery: UUID) -> list[Attempt]:
    """All attempts of a delivery, in order."""
    rows = await tx.fetch(
        """select number, at, outcome, status, milliseconds, detail from delivery_attempt
           where workspace_id = $1 and delivery_id = $2 order by number""",
        tx.workspace,
        delivery,
    )
    return [Attempt(**dict(row)) for row in rows]


async def list_deliveries(
    tx: Transaction,
    *,
    limit: int,
    before: tuple[datetime, UUID] | None,
    endpoint: UUID | None,
    state: str | None,
    event_type: str | None,
) -> Sequence[Delivery]:
    """Deliveries, newest first."""
    rows = await tx.fetch(
        f"""select {_DELIVERY} from delivery
            where workspace_id = $1 and ($2::timestamptz is null or (created_at, id) < ($2, $3))
              and ($4::uuid is null or endpoint_id = $4) and ($5::text is null or state = $5)
              and ($6::text is null or event_type = $6)
            order by created_at desc, id desc limit $7""",
        tx.workspace,
        *(before or (None, None)),
        endpoint,
        state,
        event_type,
        limit,
    )
    return [Delivery(**dict(row)) for row in rows]
