"""Job: one attempt to deliver a webhook. After a crash it is made again, with the same id and bytes."""

from datetime import UTC, datetime
from typing import Literal

import asyncpg
from standardwebhooks.webhooks import Webhook

from kgl_publish.db import deliveries
from kgl_publish.domain.addresses import UrlRefused
from kgl_publish.jobs.declared import Deliver, Outside, jobs
from kgl_publish.stores.egress import SendImpossible, SendUnknown
from kgl_publish.use_cases.record_attempt import RecordAttempt, abandon_delivery, record_attempt
from kgl_servicekit.jobs.runner import Job

_SHOWN = 500


@jobs.handles(Deliver, timeout=60, attempts=10, concurrency=8)
async def deliver(job: Job[Deliver], outside: Outside) -> None:
    """Sign, send, and record what came of it."""
    row = await job.run(deliveries.to_send, job.data.delivery_id)
    if row is None or row["state"] != "pending" or row["attempts"] >= job.data.number:
        return
    if row["endpoint_state"] != "enabled":
        await job.finish(abandon_delivery, job.data.delivery_id)
        return
    await job.finish(record_attempt, await _attempt(row, job.data.number, outside))


async def _attempt(row: asyncpg.Record, number: int, outside: Outside) -> RecordAttempt:
    outcome: Literal["delivered", "refused", "unreachable", "unknown"]
    status, milliseconds, detail = None, 0, None
    try:
        answer = await outside.egress.post(row["url"], row["body"], signed(row))
        status, milliseconds = answer.status, answer.milliseconds
        outcome = "delivered" if 200 <= status < 300 else "refused"
        detail = answer.body[:_SHOWN].decode(errors="replace").replace("\x00", "") or None
    except (UrlRefused, SendImpossible) as unreachable:
        outcome, detail = "unreachable", str(unreachable)
    except SendUnknown as unknown:
        outcome, detail = "unknown", str(unknown)
    return RecordAttempt(
        delivery_id=row["id"],
        endpoint_id=row["endpoint_id"],
        number=number,
        outcome=outcome,
        status=status,
        milliseconds=milliseconds,
        detail=detail,
        delays=outside.delays,
    )


def signed(row: asyncpg.Record) -> dict[str, str]:
    """The headers of an attempt: stable id, time of this attempt, signature over both and the body."""
    at = datetime.now(UTC)
    signature = Webhook(row["secret"]).sign(row["webhook_id"], at, row["body"].decode())
    return {
        "content-type": "application/json",
        "user-agent": "kgl-webhooks/1",
        "webhook-id": row["webhook_id"],
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": signature,
    }
