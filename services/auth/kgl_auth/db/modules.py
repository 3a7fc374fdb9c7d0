"""Statements about enabled modules."""

from uuid import UUID

import asyncpg

from kgl_auth.domain.identity import Module
from kgl_servicekit.database.transaction import Transaction

_COLUMNS = "name, capabilities, mode, deadline_seconds, version, updated_at"


async def put_module(tx: Transaction, workspace_id: UUID, module: Module) -> Module:
    """Enable a module as it is given, or change what it is enabled for, which makes the next version."""
    row = await tx.fetchrow(
        f"""insert into enabled_module (workspace_id, {_COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7)
            on conflict (workspace_id, name) do update set capabilities = excluded.capabilities, mode = excluded.mode,
                deadline_seconds = excluded.deadline_seconds, version = enabled_module.version + 1,
                updated_at = excluded.updated_at
            returning {_COLUMNS}""",
        workspace_id,
        module.name,
        list(module.capabilities),
        module.mode,
        module.deadline_seconds,
        module.version,
        module.updated_at,
    )
    assert row is not None
    return _module(row)


async def find_module(tx: Transaction, workspace_id: UUID, name: str, *, lock: bool = False) -> Module | None:
    """One enabled module."""
    suffix = " for update" if lock else ""
    row = await tx.fetchrow(
        f"select {_COLUMNS} from enabled_module where workspace_id = $1 and name = $2{suffix}", workspace_id, name
    )
    return None if row is None else _module(row)


async def list_modules(tx: Transaction, workspace_id: UUID, after: str | None, limit: int) -> list[Module]:
    """Enabled modules in order of name."""
    rows = await tx.fetch(
        f"""select {_COLUMNS} from enabled_module where workspace_id = $1 and ($2::text is null or name > $2)
            order by name limit $3""",
        workspace_id,
        after,
        limit,
    )
    return [_module(row) for row in rows]


async def delete_module(tx: Transaction, workspace_id: UUID, name: str) -> None:
    """Disable a module."""
    await tx.execute("delete from enabled_module where workspace_id = $1 and name = $2", workspace_id, name)


def _module(row: asyncpg.Record) -> Module:
    return Module(
        name=row["name"],
        capabilities=tuple(row["capabilities"]),
        mode=row["mode"],
        deadline_seconds=row["deadline_seconds"],
        version=row["version"],
        updated_at=row["updated_at"],
    )
