"""Working off the held events of a subscription, in the order of each key."""

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
from loguru import logger

from kgl_servicekit.database.connection import LOST
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.events.alone import HANDLERS
from kgl_servicekit.events.delivery import decode
from kgl_servicekit.events.handling import handle, report_stage
from kgl_servicekit.events.holds import (
    HeldState,
    due_keys,
    lock_head,
    postpone,
    release,
    retry_delay,
    start_attempt,
    stored_record,
    undo_attempt,
)
from kgl_servicekit.events.subscription import Subscription
from kgl_servicekit.failpoints import failpoint
from kgl_servicekit.metrics import CONSUMED


@dataclass(frozen=True, slots=True)
class _Try:
    """One try of the first held event of a key; `failed` is the error of this try, to be recorded.

    `number` counts the tries, this one included; 0 where a gap is looked at, which is no try.
    """

    key: str
    head: int
    number: int
    workspaces: tuple[UUID, ...]
    failed: str | None = None


class Redriver:
    """Tries held events again when they are due. Several may run: the key's lock lets one at a time."""

    def __init__(self, database: Database, subscription: Subscription, *, interval: float = 0.5) -> None:
        self._database = database
        self._subscription = subscription
        self._interval = interval
        self._reporter = f"{database.service}/{subscription.name}/held"

    async def run(self) -> None:
        """Work off until cancelled."""
        while True:
            try:
                tried = await self.work_off()
            except Unavailable:
                tried = 0
            if not tried:
                await asyncio.sleep(self._interval)

    async def work_off(self) -> int:
        """Try the first event of every due key once; the answer is how many keys were due."""
        keys = await self._database.run((), due_keys, self._subscription)
        for key in keys:
            await self._work_key(key)
        return len(keys)

    async def _work_key(self, key: str) -> None:
        head = await self._database.run((), self._start, key)
        if head is None:
            return
        failpoint("redrive.peeked")
        try:
            async with HANDLERS.shared():
                outcome = await self._database.run(head.workspaces, self._attempt, head, reporter=self._reporter)
        except (Unavailable, *LOST):
            if head.number:
                await self._database.run((), undo_attempt, head.head)
            raise
        except Exception as error:
            logger.bind(subscription=self._subscription.name).opt(exception=error).warning("event.failed")
            failed = replace(head, failed=f"{type(error).__name__}: {error}"[:2000])
            outcome = await self._database.run(head.workspaces, self._attempt, failed, reporter=self._reporter)
        failpoint("redrive.released")
        CONSUMED.labels(self._subscription.name, outcome).inc()

    async def _start(self, tx: Transaction, key: str) -> _Try | None:
        """Count the attempt; one whose attempts are all spent without a word has ended its workers."""
        head = await lock_head(tx, self._subscription, key)
        if head is None or head["state"] == "dead":
            return None
        delivery = decode(self._subscription, stored_record(head), head["corrected"])
        if head["reason"] == "gap":
            return _Try(key, head["id"], 0, delivery.workspaces())
        if head["attempts"] >= self._subscription.attempts:
            await postpone(tx, head["id"], "dead", 0, "its last attempt ended the worker without a word")
            return None
        number = await start_attempt(tx, head["id"], self._subscription.backoff_limit)
        return _Try(key, head["id"], number, delivery.workspaces())

    async def _attempt(self, tx: Transaction, command: _Try) -> str:
        head = await lock_head(tx, self._subscription, command.key)
        if head is None or head["id"] != command.head or head["state"] == "dead":
            return "held"
        if head["reason"] == "gap" and not await self._follows(tx, head):
            return await self._wait_for_gap(tx, head)
        delivery = decode(self._subscription, stored_record(head), head["corrected"])
        if command.failed is not None:
            number = max(1, command.number)
            dead = number >= self._subscription.attempts
            state: HeldState = "dead" if dead else "retrying"
            await postpone(tx, head["id"], state, retry_delay(self._subscription, number), command.failed)
            await report_stage(tx, delivery, "failed" if dead else "retrying", "handler_failed", number)
            return "held"
        outcome, refused = await handle(tx, delivery)
        if refused is not None:
            await postpone(tx, head["id"], "dead", 0, refused.error or refused.reason)
            return outcome
        await release(tx, head["id"])
        await lock_head(tx, self._subscription, command.key)  # an empty queue frees the key
        return outcome

    async def _follows(self, tx: Transaction, head: asyncpg.Record) -> bool:
        """Whether the gap before this event is closed; its place is then taken as the last settled one."""
        source = head["headers"]["ce_source"]
        taken = await tx.execute(
            """update key_position set last = $5
               where subscription = $1 and topic = $2 and key = $3 and source = $4 and epoch = $6 and last >= $5 - 1""",
            self._subscription.name,
            self._subscription.topic.name,
            head["key"],
            source,
            head["sequence"],
            head["epoch"],
        )
        return taken == "UPDATE 1"

    async def _wait_for_gap(self, tx: Transaction, head: asyncpg.Record) -> str:
        over = head["first_at"] + timedelta(seconds=self._subscription.gap_patience)
        left = (over - datetime.now(UTC)).total_seconds()
        state: HeldState = "waiting" if left > 0 else "dead"
        await postpone(tx, head["id"], state, max(0.0, left), "an earlier event of this key is missing")
        return "held"
