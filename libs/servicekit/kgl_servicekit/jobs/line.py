"""Which job is next: fair between workspaces, decided once for each job and not at every claim.

A job that is due gets a **turn** when it is put in line: one step (1 / weight of its workspace) behind the last
turn of its workspace, or behind the turn that is being worked now, whichever is later. A claim then takes the
lowest turns, by index. So a workspace with ten thousand jobs in line delays the first job of another one by a
round, and not by ten thousand. (Self-clocked fair queueing: Golestani, INFOCOM 1994.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from kgl_servicekit.database.statements import rows_of
from kgl_servicekit.jobs.declare import JobClass
from kgl_servicekit.jobs.queue import SUSPECT, Claimed, Executor

AT_ONCE = 10_000

# One transaction at a time puts in line, since a turn depends on those before it; the others go on to claim.
# Written so that it is fast without statistics, as after a sudden flood: no join to get wrong, the look-ups once
# for each workspace, each with one index that fits, and all before the first update, which the sort takes care of.
_LINE_UP = f"""
with due as (
    select id, kind, job_class, workspace_id, run_at from job
    where (select pg_try_advisory_xact_lock(hashtext('kgl_job_line')))
      and state = 'queued' and turn is null and run_at <= now()
    order by run_at, id limit $1 for update skip locked
), numbered as (
    select id, kind, job_class, workspace_id,
           row_number() over (partition by kind, job_class, workspace_id order by run_at, id) as n
    from due
), placed as (
    select id, max(case when n = 1 then greatest(
        (select max(q.turn) from job q
         where q.state = 'queued' and q.turn is not null
           and q.kind = i.kind and q.job_class = i.job_class and q.workspace_id = i.workspace_id),
        coalesce(
            (select max(r.turn) from job r
             where r.state = 'running' and r.kind = i.kind and r.job_class = i.job_class),
            (select min(q.turn) - 1 from job q
             where q.state = 'queued' and q.turn is not null and q.deaths < {SUSPECT}
               and q.kind = i.kind and q.job_class = i.job_class),
            0)) end) over (partition by kind, job_class, workspace_id)
        + n / coalesce((select weight from job_weight w where w.workspace_id = i.workspace_id), 1) as turn
    from numbered i order by id
)
update job set turn = placed.turn from placed where job.id = placed.id
"""

_TAKE = """
update job set state = 'running', attempt = attempt + 1, token = token + 1, holder = $1,
               lease_until = now() + picked.lease * interval '1 second'
from picked where job.id = picked.id
returning job.id, kind, job_class, workspace_id, operation_id, stage, data, run, attempt, failures, deaths, token,
          actor, traceparent, created_at, turn
"""

_CLAIM = f"""
with asked as (
    select * from unnest($2::text[], $3::text[], $4::text[], $5::int[], $6::float8[])
      as a(kind, first, second, most, lease)
), picked as (
    select p.id, a.lease from asked a cross join lateral (
        select id from (
            select j.id from job j
            where j.state = 'queued' and j.turn is not null and j.deaths < {SUSPECT}
              and j.kind = a.kind and j.job_class = a.first
            order by j.turn, j.id limit a.most for update skip locked) f
        union all
        select id from (
            select j.id from job j
            where j.state = 'queued' and j.turn is not null and j.deaths < {SUSPECT}
              and j.kind = a.kind and j.job_class = a.second
            order by j.turn, j.id limit a.most for update skip locked) s
        limit a.most) p
) {_TAKE}
"""

_CLAIM_SUSPECT = f"""
with picked as (
    select j.id, a.lease from job j join unnest($2::text[], $3::float8[]) as a(kind, lease) using (kind)
    where j.state = 'queued' and j.deaths >= {SUSPECT} and j.run_at <= now()
    order by j.run_at, j.id limit 1 for update of j skip locked
) {_TAKE}
"""

_DEPTHS = """
select kind, job_class, count(*) as depth, extract(epoch from now() - min(run_at))::float8 as oldest
from job where state = 'queued' and kind = any($1::text[]) group by kind, job_class
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Up to `most` jobs of a kind, those of class `first` before others, each leased for `lease` seconds."""

    kind: str
    first: JobClass
    most: int
    lease: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """How many jobs of a kind and class wait, and for how many seconds the oldest has been due."""

    kind: str
    job_class: str
    depth: int
    oldest: float


async def line_up(tx: Executor) -> int:
    """Put up to AT_ONCE jobs that are due in line; how many were."""
    return rows_of(await tx.execute(_LINE_UP, AT_ONCE))


async def claim(tx: Executor, holder: str, asked: Sequence[Asked]) -> list[Claimed]:
    """Take the next jobs in line, of several kinds at once, in the order of their turns."""
    rows = await tx.fetch(
        _CLAIM,
        holder,
        [a.kind for a in asked],
        [a.first for a in asked],
        ["bulk" if a.first == "interactive" else "interactive" for a in asked],
        [a.most for a in asked],
        [a.lease for a in asked],
    )
    return [_claimed(row) for row in sorted(rows, key=lambda row: row["turn"])]


async def claim_suspect(tx: Executor, holder: str, leases: dict[str, float]) -> list[Claimed]:
    """Take one job that has seen several workers end, of the kinds that `leases` has seconds for."""
    rows = await tx.fetch(_CLAIM_SUSPECT, holder, list(leases), list(leases.values()))
    return [_claimed(row) for row in rows]


async def has_suspect(tx: Executor, kinds: Sequence[str]) -> bool:
    """Whether a job of these kinds waits to be run alone."""
    sql = f"""select id from job where state = 'queued' and deaths >= {SUSPECT} and run_at <= now()
              and kind = any($1::text[]) limit 1"""
    return bool(await tx.fetch(sql, list(kinds)))


async def depths(tx: Executor, kinds: Sequence[str]) -> list[Depth]:
    """How long the lines are; for a sample from time to time, since it counts."""
    rows = await tx.fetch(_DEPTHS, list(kinds))
    return [
        Depth(kind=row["kind"], job_class=row["job_class"], depth=row["depth"], oldest=max(0.0, row["oldest"]))
        for row in rows
    ]


async def set_weight(tx: Executor, workspace: UUID, weight: float) -> None:
    """How many turns a workspace gets in a round, from now on; 1 without a weight. Raises ValueError."""
    if not 0.01 <= weight <= 100:
        raise ValueError(f"a weight is 0.01 to 100, not {weight:g}")
    await tx.execute(
        """insert into job_weight (workspace_id, weight) values ($1, $2)
           on conflict (workspace_id) do update set weight = excluded.weight""",
        workspace,
        weight,
    )


def _claimed(row: object) -> Claimed:
    return Claimed(**{name: value for name, value in dict(row).items() if name != "turn"})  # type: ignore[call-overload]
