"""Statements about how far the events of the identity provider have been read."""

from datetime import datetime

from kgl_servicekit.database.transaction import Transaction


async def find_position(tx: Transaction, name: str) -> datetime | None:
    """Up to when events have been read; None before the first time."""
    position: datetime | None = await tx.fetchval("select read_to from provider_position where name = $1", name)
    return position


async def move_position(tx: Transaction, moved: tuple[str, datetime]) -> None:
    """Events up to this moment have been read; an earlier one changes nothing."""
    await tx.execute(
        """insert into provider_position as p (name, read_to) values ($1, $2)
           on conflict (name) do update set read_to = greatest(p.read_to, excluded.read_to)""",
        *moved,
    )
