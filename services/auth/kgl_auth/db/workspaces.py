"""Statements about workspaces and who belongs to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from kgl_auth.domain.identity import Workspace
from kgl_servicekit.database.transaction import Transaction

_COLUMNS = "w.id, w.slug, w.name, w.version, w.created_at, w.updated_at"


@dataclass(frozen=True, slots=True)
class Membership:
    """A user's roles in one workspace."""

    workspace: Workspace
    roles: tuple[str, ...]


async def add_workspace(tx: Transaction, workspace: Workspace) -> bool:
    """Add a workspace; False when the slug is taken."""
    added = await tx.fetchval(
        """insert into workspace (id, slug, name, version, created_at, updated_at) values ($1, $2, $3, $4, $5, $6)
           on conflict (slug) do nothing returning true""",
        workspace.id,
        workspace.slug,
        workspace.name,
        workspace.version,
        workspace.created_at,
        workspace.updated_at,
    )
    return bool(added)


async def find_workspace(tx: Transaction, workspace_id: UUID, *, lock: bool = False) -> Workspace | None:
    """A workspace by id; `lock` makes other changes of it and of its members wait."""
    suffix = " for no key update" if lock else ""
    row = await tx.fetchrow(f"select {_COLUMNS} from workspace w where id = $1{suffix}", workspace_id)
    return None if row is None else _workspace(row)


async def find_workspace_by_slug(tx: Transaction, slug: str) -> Workspace | None:
    """A workspace by slug."""
    row = await tx.fetchrow(f"select {_COLUMNS} from workspace w where slug = $1", slug)
    return None if row is None else _workspace(row)


async def update_workspace(tx: Transaction, workspace: Workspace) -> bool:
    """Write a changed workspace; False, and a transaction that must end, when another one has the slug."""
    try:
        await tx.execute(
            "update workspace set slug = $2, name = $3, version = $4, updated_at = $5 where id = $1",
            workspace.id,
            workspace.slug,
            workspace.name,
            workspace.version,
            workspace.updated_at,
        )
    except asyncpg.UniqueViolationError:
        return False
    return True


async def list_memberships(tx: Transaction, user_id: UUID) -> list[Membership]:
    """The workspaces of a user, in order of slug."""
    rows = await tx.fetch(
        f"""select {_COLUMNS}, m.roles from membership m join workspace w on w.id = m.workspace_id
            where m.user_id = $1 order by w.slug""",
        user_id,
    )
    return [Membership(_workspace(row), tuple(row["roles"])) for row in rows]


async def find_roles(tx: Transaction, workspace_id: UUID, user_id: UUID) -> tuple[str, ...] | None:
    """A user's roles in a workspace; None for a stranger."""
    roles: Sequence[str] | None = await tx.fetchval(
        "select roles from membership where workspace_id = $1 and user_id = $2", workspace_id, user_id
    )
    return None if roles is None else tuple(roles)


def _workspace(row: asyncpg.Record) -> Workspace:
    return Workspace(
        id=row["id"],
        slug=row["slug"],
        name=row["name"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
