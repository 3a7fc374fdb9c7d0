"""Statements about the members of one workspace."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from kgl_auth.domain.identity import Member
from kgl_auth.domain.roles import permissions_of
from kgl_servicekit.database.transaction import Transaction

_SELECT = """
select m.user_id, u.email, u.name, m.roles, m.created_at, m.updated_at
from membership m join user_account u on u.id = m.user_id
"""


async def list_members(tx: Transaction, workspace_id: UUID, after: UUID | None, limit: int) -> list[Member]:
    """Members in order of user id, from behind `after`."""
    rows = await tx.fetch(
        _SELECT + " where m.workspace_id = $1 and ($2::uuid is null or m.user_id > $2) order by m.user_id limit $3",
        workspace_id,
        after,
        limit,
    )
    return [_member(row) for row in rows]


async def find_member(tx: Transaction, workspace_id: UUID, user_id: UUID) -> Member | None:
    """One member."""
    row = await tx.fetchrow(_SELECT + " where m.workspace_id = $1 and m.user_id = $2", workspace_id, user_id)
    return None if row is None else _member(row)


async def put_member(tx: Transaction, workspace_id: UUID, user_id: UUID, roles: Sequence[str]) -> None:
    """Make a user a member, or give a member other roles."""
    await tx.execute(
        """insert into membership (workspace_id, user_id, roles, created_at, updated_at) values ($1, $2, $3, $4, $4)
           on conflict (workspace_id, user_id) do update
           set roles = excluded.roles, updated_at = excluded.updated_at""",
        workspace_id,
        user_id,
        list(roles),
        tx.now,
    )


async def delete_member(tx: Transaction, workspace_id: UUID, user_id: UUID) -> None:
    """End a membership."""
    await tx.execute("delete from membership where workspace_id = $1 and user_id = $2", workspace_id, user_id)


async def has_other_owner(tx: Transaction, workspace_id: UUID, user_id: UUID) -> bool:
    """Whether somebody else owns the workspace; lock the workspace first, then the answer stays true."""
    found = await tx.fetchval(
        "select true from membership where workspace_id = $1 and user_id <> $2 and 'owner' = any(roles) limit 1",
        workspace_id,
        user_id,
    )
    return bool(found)


def _member(row: asyncpg.Record) -> Member:
    return Member(
        user_id=row["user_id"],
        email=row["email"],
        name=row["name"],
        roles=tuple(row["roles"]),
        permissions=permissions_of(row["roles"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
