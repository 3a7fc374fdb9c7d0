"""Refill: the bus has lost data, and gets it again from the outbox, with the same ids, in the same order."""

from collections.abc import Sequence
from dataclasses import dataclass

from kgl_contracts.topics import ALL
from kgl_servicekit.bus.port import Bus
from kgl_servicekit.database.core_migration import SHARDS
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.signals import OUTBOX
from kgl_servicekit.database.statements import rows_of
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.relay_memory import BrokerLostData, Memory

# the shard follows from the key as in outbox.shard_of
_AGAIN = """
insert into outbox_pending (id, shard, logged_at)
select id, case when topic = any($3::text[]) then 0 else crc32(convert_to(key, 'UTF8')) % $2 end, logged_at
from outbox_log where topic = any($1::text[])
on conflict do nothing
"""

_PATIENCE = 3600.0  # seconds that putting a week of events back may take


@dataclass(frozen=True, slots=True)
class Refilled:
    """Which topics of one service were refilled, and how many events leave again."""

    topics: tuple[str, ...]
    events: int


async def refill_lost(database: Database, bus: Bus) -> Refilled:
    """Refill what the bus no longer has, as the relays see it; nothing when nothing is lost. Raises Unavailable."""
    try:
        await Memory(database, bus).check()
    except BrokerLostData as lost:
        return Refilled(lost.topics, await database.run((), refill, lost.topics))
    return Refilled((), 0)


async def refill(tx: Transaction, topics: Sequence[str]) -> int:
    """Put all that the outbox has kept of these topics (7 days) back to the pending events.

    The relay sends it in the order of its ids; consumers settle what they had as duplicates. The answer is how
    many events leave again. In one transaction, so that no later event of a key passes an earlier one.
    """
    # no old partition is dropped meanwhile: whoever drops looks for pending events under this lock
    await tx.execute("select pg_advisory_xact_lock(hashtext('kgl_outbox_partitions'))")
    one_shard = [topic.name for topic in ALL if topic.one_shard]
    await tx.execute("delete from relay_position where topic = any($1::text[])", list(topics))
    # a relay that is sending now must not write its old memory back: its epochs are over
    await tx.execute("update relay_shard set epoch = epoch + 1, owner = null, expires_at = clock_timestamp()")
    tag = await tx.execute(_AGAIN, list(topics), SHARDS, one_shard, timeout=_PATIENCE)
    for topic in topics:
        await tx.audit("outbox.refill", f"topic:{topic}")
    tx.notify(OUTBOX)
    return rows_of(tag)


async def release_refused(tx: Transaction, place: tuple[str, str]) -> bool:
    """Let the relay try (topic, key) again, whose event the bus had refused; False when there is none."""
    tag = await tx.execute("delete from relay_refused where topic = $1 and key = $2", *place)
    await tx.audit("outbox.release", f"key:{place[0]}/{place[1]}")
    tx.notify(OUTBOX)
    return tag == "DELETE 1"
