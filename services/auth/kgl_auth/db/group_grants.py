"""Statements about the roles that groups of the identity provider give."""

from collections.abc import Sequence
from uuid import UUID

from kgl_servicekit.database.transaction import Transaction


async def list_grants(tx: Transaction, user_id: UUID) -> dict[UUID, tuple[str, ...]]:
    """What groups give a user now, by workspace."""
    rows = await tx.fetch("select workspace_id, roles from group_grant where user_id = $1", user_id)
    return {row["workspace_id"]: tuple(row["roles"]) for row in rows}


async def put_grant(tx: Transaction, workspace_id: UUID, user_id: UUID, roles: Sequence[str]) -> None:
    """Remember what groups give a user in a workspace; nothing is remembered of no roles."""
    await tx.execute("delete from group_grant where workspace_id = $1 and user_id = $2", workspace_id, user_id)
    if roles:
        await tx.execute(
            "insert into group_grant (workspace_id, user_id, roles) values ($1, $2, $3)",
            workspace_id,
            user_id,
            list(roles),
        )


async def list_users_with_grants(tx: Transaction, _: None) -> list[UUID]:
    """Those to whom groups give roles."""
    rows = await tx.fetch("select distinct user_id from group_grant order by user_id")
    return [row["user_id"] for row in rows]
