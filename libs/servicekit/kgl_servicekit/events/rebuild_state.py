"""How far a rebuild is: its row, and the positions of its generation. Each change is fenced by the run's lease.

A run has a receipt of the instance, whose id is that of the snapshot that it ordered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from kgl_contracts.operations import PlannedStage, SnapshotEnd, StageState, Subject
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.delivery import Delivery
from kgl_servicekit.events.order import remember_keys, seen_keys
from kgl_servicekit.events.rebuild import Rebuild, RebuildLost, RebuildRunning, Rebuilt, Run, Write
from kgl_servicekit.events.subscription import cause_of
from kgl_servicekit.identity.permissions import INSTANCE_WORKSPACE
from kgl_servicekit.ids import uuid7

LEASE = 30.0
_DEADLINE = 6 * 3600  # seconds; as long as one may take before somebody looks

_FOUND = """
select *, lease_until > now() as leased, started_at < now() - interval '1 day'
       and (expected is null or received < expected) as overdue
from rebuild where name = $1
"""

_START = """
insert into rebuild (name, generation, state, snapshot_id, owner, lease_until)
values ($1, $2, 'running', $3, $4, now() + $5 * interval '1 second')
on conflict (name) do update set generation = $2, state = 'running', snapshot_id = $3, received = 0, expected = null,
    missing = '{}', owner = $4, lease_until = excluded.lease_until, started_at = now(), ended_at = null
"""

_POSITIONS = """
insert into consumer_position (subscription, topic, incarnation, partition, next, from_start)
select $1, $2, $3, partition, next, false from unnest($4::int[], $5::bigint[]) as i(partition, next)
"""

_KEEP = """
update rebuild set lease_until = now() + $4 * interval '1 second', received = received + $5,
    expected = coalesce($6, expected), missing = array(
        select distinct m from unnest(missing || $7::text[]) m where m <> all($8::text[]) order by m)
where name = $1 and generation = $2 and owner = $3 and state = 'running'
returning received, expected
"""

_MOVE = """
update consumer_position set next = $6
where subscription = $1 and topic = $2 and incarnation = $3 and partition = $4 and next = $5
"""


@dataclass(frozen=True, slots=True)
class Change:
    """What one delivery means for the shadow tables; `write` is None when its source cannot be read."""

    delivery: Delivery
    write: Write | None


@dataclass(frozen=True, slots=True)
class Changes:
    """The deliveries of one partition in offset order that mean something, from the stored position to `end`."""

    topic: str
    partition: int
    start: int
    end: int
    changes: Sequence[Change]


@dataclass(frozen=True, slots=True)
class Begin:
    """What a run begins with: the begins and ends of both topics as they are now, and the topics' lives."""

    rebuild: Rebuild
    owner: UUID
    begins: Mapping[str, Mapping[int, int]]
    ends: Mapping[str, Mapping[int, int]]
    incarnations: dict[str, str]


async def begin(tx: Transaction, command: Begin) -> Run:
    """Go on with what an earlier run left, or start anew and order a snapshot. Raises RebuildRunning."""
    rebuild = command.rebuild
    await tx.execute("select pg_advisory_xact_lock(hashtext($1))", f"kgl_rebuild_{rebuild.name}")
    row = await tx.fetchrow(_FOUND, rebuild.name)
    if row is not None and row["state"] == "running":
        if row["leased"] and row["owner"] != command.owner:
            raise RebuildRunning(f"the rebuild of {rebuild.name} is running; it is free {LEASE:.0f} s after its end")
        stands = await tx.fetchval(f"select kgl_rebuild_{rebuild.name}_stands()")
        whole = await _can_go_on(tx, command, rebuild.generation(row["generation"]))
        if stands and whole and not row["overdue"]:
            run = Run(
                rebuild=rebuild,
                number=row["generation"],
                owner=command.owner,
                snapshot_id=row["snapshot_id"],
                incarnations=command.incarnations,
            )
            await tx.execute(
                "update rebuild set owner = $2, lease_until = now() + $3 * interval '1 second' where name = $1",
                rebuild.name,
                run.owner,
                LEASE,
            )
            await _report(tx, rebuild, run.snapshot_id, "running")
            return run
        await _forget_positions(tx, rebuild.generation(row["generation"]))
        await _report(tx, rebuild, row["snapshot_id"], "superseded")
    return await _start(tx, command, 1 if row is None else row["generation"] + 1)


async def _start(tx: Transaction, command: Begin, number: int) -> Run:
    rebuild = command.rebuild
    run = Run(
        rebuild=rebuild,
        number=number,
        owner=command.owner,
        snapshot_id=uuid7(),
        incarnations=command.incarnations,
    )
    await tx.execute(f"select kgl_rebuild_{rebuild.name}_start()")
    await tx.execute(_START, rebuild.name, number, run.snapshot_id, run.owner, LEASE)
    for topic, ends in command.ends.items():
        await tx.execute(
            _POSITIONS, run.generation, topic, command.incarnations[topic], list(ends), list(ends.values())
        )
    plan = [PlannedStage(name=_stage(tx, rebuild), deadline_seconds=_DEADLINE)]
    own = tx.scoped(tx.cause, (INSTANCE_WORKSPACE,))
    await own.start_operation(
        f"{tx.service}.rebuild", Subject(type="rebuild", id=run.snapshot_id), plan, id=run.snapshot_id
    )
    await _report(tx, rebuild, run.snapshot_id, "running")
    await tx.emit(rebuild.request(run.snapshot_id), instance=True)
    return run


def _stage(tx: Transaction, rebuild: Rebuild) -> str:
    return f"{tx.service}.rebuild.{rebuild.name}"


async def _report(
    tx: Transaction, rebuild: Rebuild, operation: UUID, state: StageState, error: str | None = None
) -> None:
    await tx.report(_stage(tx, rebuild), state, operation=operation, workspace=INSTANCE_WORKSPACE, error=error)


async def _can_go_on(tx: Transaction, command: Begin, generation: str) -> bool:
    """Whether the bus still has all that a generation has not read yet."""
    rows = await tx.fetch(
        "select topic, incarnation, partition, next from consumer_position where subscription = $1", generation
    )
    return {row["topic"]: row["incarnation"] for row in rows} == command.incarnations and all(
        row["next"] >= command.begins[row["topic"]].get(row["partition"], 0) for row in rows
    )


async def positions(tx: Transaction, command: tuple[Run, str]) -> dict[int, int]:
    """The next offset of each partition of a topic; raises RebuildLost when the generation has ended."""
    run, topic = command
    rows = await tx.fetch(
        "select partition, next from consumer_position where subscription = $1 and topic = $2", run.generation, topic
    )
    if not rows:
        raise RebuildLost(f"{run.generation} has ended")
    return {row["partition"]: row["next"] for row in rows}


async def keep(tx: Transaction, run: Run) -> bool:
    """Keep the lease; True when the whole snapshot has been read. Raises RebuildLost."""
    return await _keep(tx, run, 0, None, set(), set())


async def release(tx: Transaction, command: tuple[str, UUID]) -> None:
    """Let the next run of this rebuild go on at once, if it is this owner's."""
    await tx.execute("update rebuild set lease_until = now() where name = $1 and owner = $2", *command)


async def corrections(tx: Transaction, command: tuple[str, Sequence[UUID]]) -> dict[UUID, bytes]:
    """The corrected payloads of these events of a subscription."""
    rows = await tx.fetch(
        "select event_id, value from correction where subscription = $1 and event_id = any($2::uuid[])", *command
    )
    return {row["event_id"]: row["value"] for row in rows}


async def apply(tx: Transaction, command: tuple[Run, Changes]) -> None:
    """Write a batch to the shadow tables and move the position; raises RebuildLost."""
    run, batch = command
    place = (run.generation, batch.topic, run.incarnations[batch.topic], batch.partition)
    if await tx.execute(_MOVE, *place, batch.start, batch.end) != "UPDATE 1":
        raise RebuildLost(f"{run.generation} is not at {batch.start} of partition {batch.partition}")
    keys = sorted({change.delivery.key for change in batch.changes})
    seen = await seen_keys(tx, run.generation, batch.topic, keys)
    lost: set[str] = set()
    found: set[str] = set()
    received, expected = 0, None
    for change in batch.changes:
        delivery = change.delivery
        if _repeated(delivery, seen):
            continue
        if delivery.event is not None and isinstance(delivery.event.data, SnapshotEnd):
            expected = delivery.event.data.count
            continue
        received += batch.topic == run.rebuild.replay.name
        workspace = None if delivery.envelope is None else delivery.envelope.workspace_id
        name = delivery.key if workspace is None else f"{workspace}/{delivery.key}"
        if change.write is None:
            if delivery.handled is not None and delivery.handled.model is run.rebuild.ended:
                expected = 0  # nobody knows how many there are: the rebuild is over, and lacks what this told
            lost.add(name)
            found.discard(name)
            continue
        assert delivery.envelope is not None  # what can be written could be read
        await change.write(tx.scoped(cause_of(delivery.envelope), delivery.workspaces()))
        found.add(name)
        lost.discard(name)
    await remember_keys(tx, run.generation, batch.topic, seen)
    await _keep(tx, run, received, expected, lost, found)


def _repeated(delivery: Delivery, seen: dict[tuple[str, str], tuple[int, int]]) -> bool:
    """Whether this event was applied before; notes it as applied."""
    envelope = delivery.envelope
    if envelope is None or envelope.sequence is None:
        return False
    place, at = (delivery.key, envelope.source), (envelope.source_epoch, envelope.sequence)
    if at <= seen.get(place, (0, 0)):
        return True
    seen[place] = at
    return False


async def _keep(
    tx: Transaction, run: Run, received: int, expected: int | None, lost: set[str], found: set[str]
) -> bool:
    row = await tx.fetchrow(
        _KEEP, run.rebuild.name, run.number, run.owner, LEASE, received, expected, sorted(lost), sorted(found)
    )
    if row is None:
        raise RebuildLost(f"{run.generation} belongs to another process, or has ended")
    return row["expected"] is not None and row["received"] >= row["expected"]


async def stop_live(tx: Transaction, run: Run) -> dict[int, int]:
    """Let the live subscription stand still until the transaction ends; the answer is where."""
    live = run.rebuild.live
    rows = await tx.fetch(
        """select partition, next from consumer_position
           where subscription = $1 and topic = $2 and incarnation = $3 order by partition for update""",
        live.name,
        live.topic.name,
        run.incarnations[live.topic.name],
    )
    return {row["partition"]: row["next"] for row in rows}


async def swap(tx: Transaction, run: Run) -> Rebuilt:
    """Put the shadow tables in the place of the present ones, and end the rebuild. Raises RebuildLost."""
    await keep(tx, run)
    await tx.execute(f"select kgl_rebuild_{run.rebuild.name}_swap()")
    await _report(tx, run.rebuild, run.snapshot_id, "done")
    return Rebuilt(run.number, await _end(tx, run, "done"))


async def check_complete(tx: Transaction, run: Run) -> tuple[str, ...]:
    """The keys whose source could not be read; when there are any, the rebuild ends without a swap."""
    await keep(tx, run)
    missing = tuple(await tx.fetchval("select missing from rebuild where name = $1", run.rebuild.name))
    if missing:
        await tx.execute(f"select kgl_rebuild_{run.rebuild.name}_drop()")
        await _end(tx, run, "incomplete")
        await _report(tx, run.rebuild, run.snapshot_id, "failed", "source_missing")
    return missing


async def _end(tx: Transaction, run: Run, state: str) -> int:
    await _forget_positions(tx, run.generation)
    row = await tx.fetchrow(
        """update rebuild set state = $2, ended_at = now(), lease_until = now() where name = $1
           returning received, cardinality(missing) as missing""",
        run.rebuild.name,
        state,
    )
    assert row is not None  # it was locked by `keep`
    await audit_rebuild(tx, (run.rebuild.name, {"generation": run.number, "keys": row["received"]}, row["missing"]))
    received: int = row["received"]
    return received


async def audit_rebuild(tx: Transaction, ended: tuple[str, Mapping[str, int], int]) -> None:
    """Record that a rebuild has come to its end, with counts; `missing` are keys whose source could not be read."""
    name, counts, missing = ended
    await tx.audit("rebuild.run", f"rebuild:{tx.service}.{name}", details={**counts, "missing": missing})


async def _forget_positions(tx: Transaction, generation: str) -> None:
    await tx.execute("delete from consumer_position where subscription = $1", generation)
    await tx.execute("delete from key_position where subscription = $1", generation)
