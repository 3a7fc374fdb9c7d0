"""Which events were settled already: by the contiguous sequence of a key, or by an inbox of ids.

The sequence of (source, key) decides for topics of services, for ever. Unsequenced topics (those that modules
write) have an inbox of ids with a partition for each day: what is older than all of them cannot be told from
a duplicate, and is never executed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from kgl_contracts.envelope import Envelope
from kgl_servicekit.database.maintenance import INBOX_DAYS
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.delivery import Delivery
from kgl_servicekit.events.subscription import Subscription

Fate = Literal["next", "duplicate", "gap", "too_old"]

_SEEN = """
select key, source, epoch, last from key_position
where subscription = $1 and topic = $2 and key = any($3::text[])
"""

_REMEMBER = """
insert into key_position (subscription, topic, key, source, epoch, last)
select $1, $2, key, source, epoch, last
from unnest($3::text[], $4::text[], $5::bigint[], $6::bigint[]) as i(key, source, epoch, last)
on conflict (subscription, topic, key, source) do update set epoch = excluded.epoch, last = excluded.last
"""

# An id is looked for in all partitions: whoever repeats an event may well give it another time. That is no race:
# an id is made of its key (`delivery.decode`), a key has one partition of the topic, and the position of that is
# locked by this transaction.
_RECEIVE = """
with input as (
    select distinct on (event_id) event_id, occurred_at from unnest($2::uuid[], $3::timestamptz[])
        as i(event_id, occurred_at)
), fresh as (
    select * from input
    where occurred_at >= ((now() at time zone 'UTC')::date - $4::int) at time zone 'UTC'
      and occurred_at < ((now() at time zone 'UTC')::date + 2) at time zone 'UTC'
), kept as (
    insert into inbox (subscription, event_id, occurred_at)
    select $1, event_id, occurred_at from fresh
    where not exists (select from inbox n where n.subscription = $1 and n.event_id = fresh.event_id)
    returning event_id
)
select i.event_id, case when k.event_id is not null then 'next'
                        when f.event_id is not null then 'duplicate' else 'too_old' end as fate
from input i left join fresh f using (event_id) left join kept k using (event_id)
"""


KeyPositions = dict[tuple[str, str], tuple[int, int]]
"""The last settled (epoch, sequence) by (key, source)."""


async def seen_keys(tx: Transaction, subscription: str, topic: str, keys: Sequence[str]) -> KeyPositions:
    """What a subscription, or a generation of one, has settled of these keys."""
    rows = await tx.fetch(_SEEN, subscription, topic, keys)
    return {(row["key"], row["source"]): (row["epoch"], row["last"]) for row in rows}


async def remember_keys(tx: Transaction, subscription: str, topic: str, settled: KeyPositions) -> None:
    """Write what was settled, in sorted order."""
    places = sorted(settled)
    await tx.execute(
        _REMEMBER,
        subscription,
        topic,
        [key for key, _ in places],
        [source for _, source in places],
        [settled[place][0] for place in places],
        [settled[place][1] for place in places],
    )


@dataclass(slots=True)
class Order:
    """What was settled before a batch, and what the batch adds to it."""

    from_start: bool
    compacted: bool
    last: KeyPositions
    changed: set[tuple[str, str]] = field(default_factory=set)
    received: dict[UUID, Fate] = field(default_factory=dict)

    @classmethod
    async def load(
        cls, tx: Transaction, subscription: Subscription, deliveries: Sequence[Delivery], *, from_start: bool
    ) -> "Order":
        """Read what is known of the batch's keys, and take unsequenced events into the inbox."""
        name, topic = subscription.name, subscription.topic
        last = await seen_keys(tx, name, topic.name, list({delivery.key for delivery in deliveries}))
        order = cls(from_start, topic.compacted, last)
        if not topic.sequenced:
            envelopes = [d.envelope for d in deliveries if d.envelope is not None and d.envelope.sequence is None]
            ids, times = [e.id for e in envelopes], [e.time for e in envelopes]
            for row in await tx.fetch(_RECEIVE, name, ids, times, INBOX_DAYS):
                order.received[row["event_id"]] = row["fate"]
        return order

    def of(self, delivery: Delivery) -> Fate:
        """Whether this event is the next of its key, was settled before, or comes too early or too late."""
        envelope = delivery.envelope
        if envelope is None:
            return "next"
        if envelope.sequence is None:
            return self._received(envelope)
        known = self.last.get((delivery.key, envelope.source))
        at = (envelope.source_epoch, envelope.sequence)
        if known is None:
            # the topic was read from its first record on, so the first event of the key is missing
            missing = self.from_start and not self.compacted and envelope.source_epoch == 1 and envelope.sequence > 1
            return "gap" if missing else "next"
        if at <= known:
            return "duplicate"
        if self.compacted or at[0] > known[0] or at[1] == known[1] + 1:
            return "next"
        return "gap"

    def advance(self, delivery: Delivery) -> None:
        """This event is settled with the transaction."""
        envelope = delivery.envelope
        if envelope is not None and envelope.sequence is not None:
            place = (delivery.key, envelope.source)
            self.last[place] = (envelope.source_epoch, envelope.sequence)
            self.changed.add(place)

    async def remember(self, tx: Transaction, subscription: Subscription) -> None:
        """Write what the batch has settled."""
        if self.changed:
            changed = {place: self.last[place] for place in self.changed}
            await remember_keys(tx, subscription.name, subscription.topic.name, changed)

    def _received(self, envelope: Envelope) -> Fate:
        fate = self.received.get(envelope.id, "next")
        if fate == "next" and envelope.id in self.received:
            self.received[envelope.id] = "duplicate"  # a second one in the same batch
        return fate
