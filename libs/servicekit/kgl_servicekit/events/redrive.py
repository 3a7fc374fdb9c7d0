"""Working off the held events of a subscription, in the order of each key."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
from loguru import logger

from kgl_servicekit.database.connection import LOST
from kgl_servicekit.database.engine import Database, OutcomeUnknown
from kgl_servicekit.database.signals import HOLDS
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.events.alone import HANDLERS
from kgl_servicekit.events.delivery import Delivery, decode
from kgl_servicekit.events.handling import handle, report_stage
from kgl_servicekit.events.held_metrics import HeldMetrics
from kgl_servicekit.events.holds import (
    NOT_YET,
    VERSION_LIMIT,
    VERSION_PATIENCE,
    lock_head,
    next_keys,
    postpone,
    release,
    retry_delay,
    silent_delay,
    start_attempt,
    stored_record,
    undo_attempt,
)
from kgl_servicekit.events.letters import tell, untold_keys
from kgl_servicekit.events.subscription import Subscription
from kgl_servicekit.failpoints import failpoint
from kgl_servicekit.metrics import CONSUMED
from kgl_servicekit.waiting import wait_until_set

_LAST = """
select epoch, last from key_position where subscription = $1 and topic = $2 and key = $3 and source = $4 for update
"""

_TAKE = "update key_position set last = $5 where subscription = $1 and topic = $2 and key = $3 and source = $4"


@dataclass(frozen=True, slots=True)
class _Try:
    """One try of the first held event of a key; `failed` is the error of this try, to be recorded.

    `number` counts the tries, this one included.
    """

    subscription: Subscription
    key: str
    head: int
    number: int
    workspaces: tuple[UUID, ...]
    failed: str | None = None


class Redriver:
    """Tries held events again when they are due. Several may run: the key's lock lets one at a time.

    It sleeps until the next one is due, at most `interval` seconds; a new hold wakes it.
    """

    def __init__(self, database: Database, *subscriptions: Subscription, interval: float = 5.0) -> None:
        self._database = database
        self._subscriptions = {subscription.name: subscription for subscription in subscriptions}
        self._interval = interval
        self._wait = 0.0
        self._counted: tuple[int, int] | None = None
        self._undone: set[tuple[int, int]] = set()
        self._metrics = HeldMetrics(database, list(self._subscriptions))

    async def run(self) -> None:
        """Work off until cancelled."""
        woken = self._database.signals.subscribe(HOLDS)
        try:
            while True:
                woken.clear()
                try:
                    tried = await self.work_off()
                    if await self._metrics.sample():
                        await self._tell_untold()
                except Unavailable:
                    tried, self._wait = 0, 0.5
                if not tried:
                    await wait_until_set(woken, min(self._interval, self._wait))
        finally:
            self._database.signals.unsubscribe(HOLDS, woken)

    async def _tell_untold(self) -> None:
        """Tell of the letters that are older than the list of them, or were made by a worker that knows of none."""
        for name, key in await self._database.run((), untold_keys, list(self._subscriptions)):
            await self._database.run((), _tell_key, (self._subscriptions[name], key))

    async def work_off(self) -> int:
        """Try the first event of every due key once; the answer is how many keys were due."""
        for attempt in tuple(self._undone):
            await self._database.run((), undo_attempt, attempt)
            self._undone.discard(attempt)
        following = await self._database.run((), next_keys, list(self._subscriptions))
        due = [(name, key) for name, key, wait in following if wait <= 0]
        self._wait = max(0.01, following[0][2]) if following else self._interval
        for name, key in due:
            await self._work_key(self._subscriptions[name], key)
        return len(due)

    async def _work_key(self, subscription: Subscription, key: str) -> None:
        reporter = f"{self._database.service}/{subscription.name}/held"
        try:
            head = await self._database.run((), self._start, (subscription, key), reporter=reporter)
        except OutcomeUnknown:
            if self._counted is not None:
                self._undone.add(self._counted)
            raise
        if head is None:
            return
        failpoint("redrive.peeked")
        try:
            async with HANDLERS.shared():
                outcome = await self._database.run(head.workspaces, self._attempt, head, reporter=reporter)
        except (Unavailable, *LOST):
            self._undone.add((head.head, head.number))  # as soon as the database answers again
            raise
        except Exception as error:
            logger.bind(subscription=subscription.name).opt(exception=error).warning("event.failed")
            outcome = await self._note_failure(
                replace(head, failed=f"{type(error).__name__}: {error}"[:2000]), reporter
            )
        failpoint("redrive.released")
        CONSUMED.labels(subscription.name, outcome).inc()

    async def _note_failure(self, head: _Try, reporter: str) -> str:
        try:
            return await self._database.run(head.workspaces, self._attempt, head, reporter=reporter)
        except (Unavailable, *LOST):
            raise
        except Exception as error:  # the attempt is counted and has its next time, so nothing is lost
            logger.bind(subscription=head.subscription.name).opt(exception=error).error("event.failure_not_noted")
            return "held"

    async def _start(self, tx: Transaction, place: tuple[Subscription, str]) -> _Try | None:
        """Count the attempt; one whose attempts are all spent without a word has ended its workers.

        One that is not due any more is being tried by another redriver, which listed it at the same time.
        An event behind a gap is looked at first: it is tried only as the next one of its key.
        """
        subscription, key = place
        self._counted = None
        head = await lock_head(tx, subscription, key)
        if head is None or head["state"] == "dead" or not head["due"]:
            return None
        if head["reason"] == "gap" and not await _closed(tx, subscription, head):
            return None
        delivery = decode(subscription, stored_record(head), head["corrected"])
        if head["attempts"] >= subscription.attempts:
            await _give_up(tx, head, delivery, "worker_lost", "its last attempt ended the worker without a word")
            return None
        if delivery.unknown_version:
            waited = (datetime.now(UTC) - head["first_at"]).total_seconds()
            if waited < VERSION_LIMIT:
                await postpone(tx, head["id"], "retrying", VERSION_PATIENCE, NOT_YET)
            else:
                await _give_up(tx, head, delivery, "unknown_version", NOT_YET)
            return None
        number = await start_attempt(tx, head["id"], silent_delay(subscription, head["attempts"] + 1))
        self._counted = (head["id"], number)
        return _Try(subscription, key, head["id"], number, delivery.workspaces())

    async def _attempt(self, tx: Transaction, command: _Try) -> str:
        subscription = command.subscription
        head = await lock_head(tx, subscription, command.key)
        if head is None or head["id"] != command.head or head["state"] == "dead":
            return "held"
        delivery = decode(subscription, stored_record(head), head["corrected"])
        if command.failed is not None:
            await _failed(tx, head, delivery, command)
            return "held"
        outcome, refused = await handle(tx, delivery, head["run"])
        if refused is not None:
            await _give_up(tx, head, delivery, refused.reason, refused.error or refused.reason)
            return outcome
        await release(tx, subscription, head)
        return outcome


async def _failed(tx: Transaction, head: asyncpg.Record, delivery: Delivery, attempt: _Try) -> None:
    """Note a try that did not get through: the next one, or that there is none."""
    error = attempt.failed or ""
    if attempt.number >= attempt.subscription.attempts:
        await _give_up(tx, head, delivery, "handler_failed", error)
        return
    delay = retry_delay(attempt.subscription, attempt.number)
    again = await postpone(tx, head["id"], "retrying", delay, error)
    told = {"attempt": attempt.number, "run": head["run"]}
    await report_stage(tx, delivery, "retrying", "handler_failed", **told, next_retry_at=again)


async def _give_up(tx: Transaction, head: asyncpg.Record, delivery: Delivery, code: str, error: str) -> None:
    """It is dead until somebody decides, and its receipt says so."""
    await postpone(tx, head["id"], "dead", 0, error)
    attempt = max(1, head["attempts"])
    await report_stage(tx, delivery, "failed", code, attempt=attempt, run=head["run"])


async def _tell_key(tx: Transaction, place: tuple[Subscription, str]) -> None:
    subscription, key = place
    await lock_head(tx, subscription, key)
    await tell(tx, subscription.name, subscription.topic.name, [key])


async def _closed(tx: Transaction, subscription: Subscription, head: asyncpg.Record) -> bool:
    """Whether the gap before this event is closed; its place is then taken as the last settled one.

    An event that was settled meanwhile (it came twice) is let go; one that comes too early waits, or is dead.
    """
    place = (subscription.name, subscription.topic.name, head["key"], head["headers"]["ce_source"])
    known = await tx.fetchrow(_LAST, *place)
    at = (head["epoch"], head["sequence"])
    if known is not None and at <= (known["epoch"], known["last"]):
        await release(tx, subscription, head)
        return False
    if known is not None and at == (known["epoch"], known["last"] + 1):
        await tx.execute(_TAKE, *place, head["sequence"])
        await tx.execute("update held_event set reason = 'behind' where id = $1", head["id"])
        return True
    left = subscription.gap_patience - (datetime.now(UTC) - head["first_at"]).total_seconds()
    missing = "an earlier event of this key is missing"
    if left > 0:
        await postpone(tx, head["id"], "waiting", left, missing)
    else:
        delivery = decode(subscription, stored_record(head), head["corrected"])
        await _give_up(tx, head, delivery, "gap", missing)
    return False
