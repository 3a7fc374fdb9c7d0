"""What the core tables of a service tell a doctor. Each check is a use case of its own, without workspaces."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from uuid import UUID

from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.doctor.finding import Told, duration
from kgl_servicekit.events import outbox_watch
from kgl_servicekit.events.holds import REFUSED

TableCheck = Callable[[Transaction, None], Awaitable[Sequence[Told]]]

_PENDING_SECONDS = 30.0  # a relay sends within milliseconds
_QUEUE_SECONDS = 900.0  # as the alert JobsWait
_HELD_SECONDS = 60.0  # an event that is tried again after a moment is nobody's business
_IDENTITY_SECONDS = 30.0  # auth ticks every second

_DEAD = """
select subscription, reason, count(*) as events, extract(epoch from now() - min(last_at))::float8 as oldest
from held_event where state = 'dead' group by 1, 2 order by 1, 2
"""

_REFUSED = """
select count(*) from held_event
where subscription = $1 and reason = any($2::text[]) and first_at > now() - interval '10 minutes'
"""

_HELD = """
select e.subscription, count(*) as events, count(distinct (e.topic, e.key)) as keys,
       extract(epoch from now() - min(k.held_at))::float8 as oldest,
       (array_agg(e.error order by e.id) filter (where e.error is not null))[1] as error
from held_event e join held_key k using (subscription, topic, key)
where e.state <> 'dead' and k.held_at < now() - $1 * interval '1 second'
  and not exists (select from held_event d where d.subscription = e.subscription and d.topic = e.topic
                    and d.key = e.key and d.state = 'dead')
group by 1 order by 1
"""

_FAILED = """
select kind, coalesce(error_code, 'unknown') as code, count(*) as jobs, max(ended_at) as newest,
       (array_agg(distinct operation_id) filter (where operation_id is not null))[1:3] as operations
from job where state = 'failed' and ended_at > now() - interval '1 day'
  and (kind, coalesce(error_code, '')) not in (select * from unnest($1::text[], $2::text[]))
group by 1, 2 order by 1, 2
"""

_QUEUED = """
select kind, count(*) as jobs, extract(epoch from now() - min(run_at))::float8 as oldest
from job where state = 'queued' and run_at < now() - $1 * interval '1 second' group by 1 order by 1
"""


async def dead_letters(tx: Transaction, _: None) -> list[Told]:
    """Events that wait for somebody's decision."""
    return [
        Told(
            f"{row['events']} events of {row['subscription']} are dead letters ({row['reason']}), "
            f"the oldest for {duration(row['oldest'])}",
            f"kgl dead-letters list subscription={row['subscription']}; then correct, redrive or discard",
        )
        for row in await tx.fetch(_DEAD)
    ]


async def held_keys(tx: Transaction, _: None) -> list[Told]:
    """Keys that wait for an event which is tried again and again; those behind a dead letter are told with it."""
    return [
        Told(
            f"{row['events']} events of {row['subscription']} wait behind {row['keys']} keys that fail, "
            f"the first for {duration(row['oldest'])}: {row['error'] or 'an event before them is missing'}",
            f"they are tried again by themselves; the log of {tx.service}-worker has the errors",
        )
        for row in await tx.fetch(_HELD, _HELD_SECONDS)
    ]


async def pending_events(tx: Transaction, _: None) -> list[Told]:
    """Events that were committed and do not reach the bus."""
    now = await outbox_watch.pending(tx, None)
    if now.oldest < _PENDING_SECONDS:
        return []
    return [
        Told(
            f"{now.events} events wait in the outbox, the oldest for {duration(now.oldest)}",
            f"look at the bus and at the log of {tx.service}-worker",
        )
    ]


async def refused_events(tx: Transaction, _: None) -> list[Told]:
    """Keys whose event the bus will never take."""
    rows = await tx.fetch("select topic, key, error from relay_refused order by at, topic, key limit 10")
    return [
        Told(
            f"the bus refuses an event of key {row['key']} of {row['topic']}, and the key waits: {row['error']}",
            f"mend what it says, then kgl-{tx.service} release {row['topic']} {row['key']}",
        )
        for row in rows
    ]


async def relays(tx: Transaction, _: None) -> list[Told]:
    """Whether a worker is alive: each renews the leases of its shards."""
    if await tx.fetchval("select exists (select from relay_shard where expires_at > clock_timestamp())"):
        return []
    return [Told("no worker runs", f"start one: make dev, make up, or kgl-{tx.service} worker")]


async def failed_jobs(tx: Transaction, verdicts: Sequence[tuple[str, str]]) -> list[Told]:
    """Jobs that failed for good within a day, but for these verdicts about what came in: kind and code."""
    kinds, codes = [kind for kind, _ in verdicts], [code for _, code in verdicts]
    return [
        Told(
            f"{row['jobs']} jobs {row['kind']} failed within a day: {row['code']}" + _such_as(row["operations"]),
            f"the log of {tx.service}-worker has the errors; mend it, then kgl operations retry ID (all ids: "
            "GET /operations/v1?state=failed, for operators without Kgl-Workspace)",
        )
        for row in await tx.fetch(_FAILED, kinds, codes)
    ]


def _such_as(operations: Sequence[UUID] | None) -> str:
    return f" (of operation {', '.join(map(str, operations))})" if operations else ""


async def waiting_jobs(tx: Transaction, _: None) -> list[Told]:
    """Jobs that were due long ago."""
    return [
        Told(
            f"{row['jobs']} jobs {row['kind']} wait, the oldest for {duration(row['oldest'])}",
            f"more workers: make scale SERVICE={tx.service} WORKERS=...; if none ends, the log of {tx.service}-worker",
        )
        for row in await tx.fetch(_QUEUED, _QUEUE_SECONDS)
    ]


async def identity(tx: Transaction, _: None) -> list[Told]:
    """Whether what auth says of keys and members arrives."""
    age = await tx.fetchval(
        "select extract(epoch from clock_timestamp() - at)::float8 from identity_replica where key_id = 'clock'"
    )
    if age is not None and age < _IDENTITY_SECONDS:
        return []
    heard = "never heard of auth" if age is None else f"not heard of auth for {duration(age)}"
    return [
        Told(
            f"{tx.service} has {heard}: what was revoked since is asked for one by one, and writes stop after 5 min",
            "look at auth-worker and at the bus",
        )
    ]


async def refused_lately(tx: Transaction, subscription: str) -> int:
    """How many events a subscription has refused within 10 min."""
    count: int = await tx.fetchval(_REFUSED, subscription, sorted(REFUSED))
    return count


TABLE_CHECKS: Mapping[str, TableCheck] = {
    "workers": relays,
    "outbox": pending_events,
    "refused events": refused_events,
    "held keys": held_keys,
    "dead letters": dead_letters,
    "waiting jobs": waiting_jobs,
    "identity": identity,
}
