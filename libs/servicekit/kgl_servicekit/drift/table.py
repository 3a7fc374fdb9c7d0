"""The table in which a service keeps what its checks of drift found last, and when the next look is."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
from sqlalchemy import BigInteger, Boolean, Column, DateTime, MetaData, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY

from kgl_servicekit.database.core_migration import Operations
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.doctor.finding import Told, duration
from kgl_servicekit.drift.check import ByHand

_TABLE = """
create table drift_check (
    name text not null,
    looked_at timestamptz,
    items bigint not null default 0,
    repaired bigint not null default 0,
    complete boolean not null default true,
    examples text[] not null default '{}',
    error text,
    next_at timestamptz not null,
    constraint pk_drift_check primary key (name)
)
"""

_NEXT_WORKSPACE = """
create or replace function kgl_next_workspace(after uuid) returns uuid
language sql stable security definer set search_path = public, pg_temp as $$
    select workspace_id from ({parts}) as found order by workspace_id limit 1
$$
"""
_PART = "(select workspace_id from {table} where workspace_id > after order by workspace_id limit 1)"

_NOTE = """
insert into drift_check as d (name, looked_at, items, repaired, complete, examples, error, next_at)
values ($1, now(), $2, $3, $4, $5, $6, $7)
on conflict (name) do update
set looked_at = now(), items = case when excluded.error is null then excluded.items else d.items end,
    repaired = case when excluded.error is null then excluded.repaired else d.repaired end,
    complete = excluded.complete, error = excluded.error,
    examples = case when excluded.error is null then excluded.examples else d.examples end
"""

_REPAIR = "kgl drift --repair"

_CLAIM = """
update drift_check set next_at = $2 where name = any($1::text[]) and next_at <= now() returning name
"""
_EXPECT = """
insert into drift_check (name, next_at) select name, $2 from unnest($1::text[]) as name on conflict do nothing
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftResult:
    """What a check found: how many items, some of them, and of how many the repair was begun.

    With an `error` nothing was found out. A look that is not `complete` ended at the most that it may find.
    """

    check: str
    items: int = 0
    repaired: int = 0
    complete: bool = True
    examples: tuple[str, ...] = ()
    error: str | None = None

    @property
    def well(self) -> bool:
        """Whether nothing is left to be done."""
        return self.error is None and self.items == self.repaired

    def lines(self) -> list[str]:
        """For people: a line for the check, and one for each example."""
        if self.error is not None:
            return [f"{self.check}: could not be looked at: {self.error}"]
        if not self.items:
            return [f"{self.check}: as its source says"]
        more = "" if self.complete else " or more"
        repaired = f", {self.repaired} of them repaired" if self.repaired else ""
        return [
            f"{self.check}: {self.items}{more} differ{repaired}",
            *(f"    {example}" for example in self.examples),
        ]

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


def drift_table(metadata: MetaData) -> Table:
    """The model of the table."""
    return Table(
        "drift_check",
        metadata,
        Column("name", Text, primary_key=True),
        Column("looked_at", DateTime(timezone=True)),
        Column("items", BigInteger, nullable=False, server_default=text("0")),
        Column("repaired", BigInteger, nullable=False, server_default=text("0")),
        Column("complete", Boolean, nullable=False, server_default=text("true")),
        Column("examples", ARRAY(Text), nullable=False, server_default=text("'{}'")),
        Column("error", Text),
        Column("next_at", DateTime(timezone=True), nullable=False),
        info={"kind": "source"},
    )


def create_drift(op: Operations, *tables: str) -> None:
    """Make the table of `drift_table`, and the way from one workspace of these tables to the next."""
    op.execute(_TABLE)
    op.execute(_NEXT_WORKSPACE.format(parts=" union all ".join(_PART.format(table=table) for table in tables)))


def next_look(hour: int, now: datetime) -> datetime:
    """The next time that it is so many o'clock, in UTC."""
    today = now.astimezone(UTC).replace(hour=hour, minute=0, second=0, microsecond=0)
    return today if today > now else today + timedelta(days=1)


async def note(tx: Transaction, command: tuple[DriftResult, datetime]) -> None:
    """Keep a result; where it could not be found out, the last one stays beside the error."""
    result, next_at = command
    await tx.execute(
        _NOTE,
        result.check,
        result.items,
        result.repaired,
        result.complete,
        list(result.examples),
        result.error,
        next_at,
    )


async def claim(tx: Transaction, command: tuple[Sequence[str], datetime]) -> set[str]:
    """The checks that are due: they are this worker's now, and due again at the given time."""
    names, next_at = command
    await tx.execute(_EXPECT, list(names), next_at)
    return {row["name"] for row in await tx.fetch(_CLAIM, list(names), next_at)}


async def kept(tx: Transaction, _: None) -> list[asyncpg.Record]:
    """What was found last."""
    return await tx.fetch(
        """select *, extract(epoch from now() - looked_at)::float8 as age,
                  next_at < now() - interval '1 day' as forgotten from drift_check order by name"""
    )


async def examine_drift(tx: Transaction, by_hand: Mapping[str, ByHand]) -> list[Told]:
    """For the doctor: what the last looks found, how long ago that was, and what to do; `by_hand` by check."""
    told = []
    for row in await kept(tx, None):
        left = row["items"] - row["repaired"]
        todo = _todo(row, by_hand.get(row["name"], {}))
        ago = "" if row["age"] is None else f", {duration(row['age'])} ago"
        if row["error"] is not None:
            told.append(Told(f"{row['name']} could not be looked at{ago}: {row['error']}", "kgl drift"))
        if left:
            some = f", such as {row['examples'][0]}" if row["examples"] else ""
            more = "" if row["complete"] else " or more"
            told.append(Told(f"{row['name']}: {left}{more} differ from their source{ago}{some}", todo))
        if row["forgotten"]:
            told.append(Told(f"{row['name']} was not looked at when it was due", "kgl drift; look at its worker"))
    return told


def _todo(row: asyncpg.Record, by_hand: ByHand) -> str:
    """What helps the states of the examples; a repair that has just been made leaves what is to be done by hand."""
    states = [example.partition(": ")[2] for example in row["examples"]]
    others = sorted({by_hand[state] for state in states if state in by_hand})
    repair = not others or (not row["repaired"] and not all(state in by_hand for state in states))
    return "; ".join([*([_REPAIR] if repair else []), *others])
