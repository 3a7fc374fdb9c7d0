"""What came of an attempt to deliver, and what follows from it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

from kgl_contracts.operations import Subject
from kgl_contracts.publish import DeliveryFailed, DeliverySucceeded
from kgl_publish.db import deliveries
from kgl_publish.domain.webhooks import Attempt, Delivery, DeliveryNotFound, redelivery_plan, stage_of
from kgl_publish.jobs.declared import Deliver
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.jobs import queue

GONE = 410


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordAttempt:
    """One attempt; `delays` (seconds) say how many more may follow, and when."""

    delivery_id: UUID
    endpoint_id: UUID
    number: int
    outcome: Literal["delivered", "refused", "unreachable", "unknown"]
    status: int | None
    milliseconds: int
    detail: str | None
    delays: tuple[float, ...]


async def record_attempt(tx: Transaction, command: RecordAttempt) -> None:
    """Log the attempt; a failed one is followed by another after its delay, or by the end."""
    delivered = command.outcome == "delivered"
    gone = command.status == GONE
    again = not delivered and not gone and command.number <= len(command.delays)
    delay = command.delays[command.number - 1] if again else 0.0
    next_at = datetime.now(UTC) + timedelta(seconds=delay) if again else None
    state = "delivered" if delivered else "pending" if again else "failed"
    attempt = Attempt(
        number=command.number,
        at=datetime.now(UTC),
        outcome=command.outcome,
        status=command.status,
        milliseconds=command.milliseconds,
        detail=command.detail,
    )
    operation = await deliveries.log_attempt(tx, command.delivery_id, attempt, state, next_at)
    if operation is not None:
        await tx.report(
            stage_of(command.delivery_id),
            "done" if delivered else "retrying" if again else "failed",
            operation=operation,
            attempt=command.number,
            error=None if delivered else command.outcome,
            next_retry_at=next_at,
        )
    about = {"delivery_id": command.delivery_id, "endpoint_id": command.endpoint_id, "attempts": command.number}
    if delivered:
        await tx.emit(DeliverySucceeded(**about, status=command.status or 0))
    elif again:
        following = Deliver(delivery_id=command.delivery_id, number=command.number + 1)
        await tx.start_job(following, delay=delay, key=f"{command.delivery_id}/{command.number + 1}")
    else:
        if gone:
            await deliveries.disable_endpoint(tx, command.endpoint_id)
        outcome: Literal["refused", "unknown"] = "unknown" if command.outcome == "unknown" else "refused"
        await tx.emit(DeliveryFailed(**about, status=command.status, outcome=outcome))


async def abandon_delivery(tx: Transaction, delivery_id: UUID) -> None:
    """The endpoint wants nothing any more."""
    operation = await deliveries.abandon(tx, delivery_id)
    if operation is not None:
        await tx.report(stage_of(delivery_id), "failed", operation=operation, error="endpoint_gone")


async def redeliver(tx: Transaction, delivery_id: UUID) -> Delivery:
    """Send a delivery once more, now: the same id, the same bytes; its receipt is a new one. Raises DeliveryNotFound.

    The next attempt may have a job already: its time has not come yet, or it ended without an attempt.
    """
    row = await deliveries.lock(tx, delivery_id)
    if row is None:
        raise DeliveryNotFound
    subject = Subject(type="delivery", id=delivery_id)
    receipt = await tx.start_operation("publish.redeliver", subject, redelivery_plan(delivery_id))
    await deliveries.reopen(tx, delivery_id, receipt.id)
    if row["operation_id"] is not None:
        await tx.report(stage_of(delivery_id), "superseded", operation=row["operation_id"])
    number = row["attempts"] + 1
    job = await tx.start_job(Deliver(delivery_id=delivery_id, number=number), key=f"{delivery_id}/{number}")
    await queue.hasten(tx, job)
    await tx.audit("delivery.redeliver", f"delivery:{delivery_id}")
    found = await deliveries.find_delivery(tx, delivery_id)
    assert found is not None
    return found
