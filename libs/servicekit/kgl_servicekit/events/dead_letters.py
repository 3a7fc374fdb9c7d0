"""What an operator decides about a dead letter: try it again, correct it, or give it up.

Each is a use case for `Database.run`. The key's lock is taken first, as the redriver does, so that a decision
and a retry never meet. What waits behind the letter goes on by itself once it is settled.
"""

from dataclasses import dataclass

import asyncpg
from pydantic import ValidationError

from kgl_servicekit.database.signals import HOLDS
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Conflict, Invalid, NotFound
from kgl_servicekit.events.delivery import decode
from kgl_servicekit.events.handling import report_stage
from kgl_servicekit.events.holds import lock_head, release, stored_record
from kgl_servicekit.events.letters import tell, tell_corrected
from kgl_servicekit.events.subscription import Subscription

_GIVE_UP_GAP = """
insert into key_position as k (subscription, topic, key, source, epoch, last) values ($1, $2, $3, $4, $5, $6)
on conflict (subscription, topic, key, source) do update set epoch = excluded.epoch, last = excluded.last
where (k.epoch, k.last) < (excluded.epoch, excluded.last)
"""

_RETRY = """
update held_event
set state = 'retrying', attempts = 0, next_at = now(), run = run + 1, redrive_operation = null, redrive_workspace = null
where id = $1
"""

_CORRECT = """
insert into correction (subscription, event_id, value, actor) values ($1, $2, $3, $4)
on conflict (subscription, event_id) do update set value = excluded.value, actor = excluded.actor, at = now()
"""


class DeadLetterMissing(NotFound, code="dead_letter_not_found"):
    """There is no dead letter of this number in the subscription; list them again."""


class NotYetDead(Conflict, code="dead_letter_not_dead"):
    """The event is still being tried, or waits behind another one; only the dead first of a key can be decided."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One held event of a subscription, by its number."""

    subscription: Subscription
    id: int


async def redrive(tx: Transaction, letter: DeadLetter) -> None:
    """Try it again at once, with all its attempts, as the next run of its stage.

    For a gap it means: the missing events are given up.

    Raises DeadLetterMissing, NotYetDead.
    """
    head = await _take(tx, letter)
    await _give_up_gap(tx, head, head["sequence"] - 1 if head["sequence"] else 0)
    await tx.execute(_RETRY, letter.id)
    again = decode(letter.subscription, stored_record(head), head["corrected"])
    await report_stage(tx, again, "running", None, run=head["run"] + 1)
    await tell(tx, head["subscription"], head["topic"], [head["key"]])
    tx.notify(HOLDS)
    await _audit(tx, head, "dead_letter.redrive")


async def discard(tx: Transaction, command: tuple[DeadLetter, str]) -> None:
    """Settle it without an effect, for a reason that is recorded; of a gap, with the missing events.

    Raises DeadLetterMissing, NotYetDead.
    """
    letter, reason = command
    head = await _take(tx, letter)
    await _give_up_gap(tx, head, head["sequence"])
    await release(tx, letter.subscription, head, given_up=reason)
    tx.notify(HOLDS)
    await _audit(tx, head, "dead_letter.discard", reason)


async def correct(tx: Transaction, command: tuple[DeadLetter, bytes]) -> None:
    """Replace its data, beside the original; a redrive and every later rebuild take the corrected one.

    Raises DeadLetterMissing, NotYetDead; Invalid when the new data does not meet the contract.
    """
    letter, value = command
    head = await _take(tx, letter)
    delivery = decode(letter.subscription, stored_record(head), value)
    if delivery.unreadable is not None or head["event_id"] is None:
        raise Invalid(
            delivery.unreadable or "The event has no readable id; discard it.", errors=_errors(letter, value, head)
        )
    if letter.subscription.topic.sequenced and delivery.event is not None and delivery.event.key != head["key"]:
        pointer = f"#/{delivery.event.data.key_field}"
        raise Invalid(
            "The key of an event cannot be corrected, since it orders it.",
            errors=[{"pointer": pointer, "detail": f"it has to be {head['key']}"}],
        )
    await tx.execute("update held_event set corrected = $2 where id = $1", letter.id, value)
    await tx.execute(_CORRECT, letter.subscription.name, head["event_id"], value, tx.cause.actor)
    await tell_corrected(tx, head, value)
    await _audit(tx, head, "dead_letter.correct")


async def _take(tx: Transaction, letter: DeadLetter) -> asyncpg.Record:
    """The letter, with its key's lock."""
    name = letter.subscription.name
    key = await tx.fetchval("select key from held_event where id = $1 and subscription = $2", letter.id, name)
    head = None if key is None else await lock_head(tx, letter.subscription, key)
    if head is None:
        raise DeadLetterMissing
    if head["id"] != letter.id or head["state"] != "dead":
        raise NotYetDead
    return head


async def _give_up_gap(tx: Transaction, head: asyncpg.Record, last: int) -> None:
    """Of an event before which others are missing: these are given up, and `last` is the last settled one."""
    if head["reason"] == "gap":
        place = (head["subscription"], head["topic"], head["key"], head["headers"]["ce_source"], head["epoch"])
        await tx.execute(_GIVE_UP_GAP, *place, last)


def _errors(letter: DeadLetter, value: bytes, head: asyncpg.Record) -> list[dict[str, str]]:
    handled = letter.subscription.handlers.get(head["type"])
    if handled is None:
        return []
    try:
        handled.validate(value)
    except ValidationError as wrong:
        return [{"pointer": "#/" + "/".join(map(str, e["loc"])), "detail": e["msg"]} for e in wrong.errors()[:50]]
    return []


async def _audit(tx: Transaction, head: asyncpg.Record, action: str, reason: str | None = None) -> None:
    details = {"type": head["type"], "key": head["key"], "event_id": str(head["event_id"]), "reason": reason}
    target = f"dead_letter:{head['subscription']}/{head['id']}"
    await tx.audit(action, target, details=details, scope=head["workspace_id"])
