"""Statements about API keys."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from kgl_auth.domain.identity import ApiKey
from kgl_servicekit.database.transaction import Transaction

_COLUMNS = "id, name, permissions, module, created_by, created_at, expires_at, revoked_at"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key, its workspace, and the hash of its secret in hexadecimal."""

    key: ApiKey
    workspace_id: UUID
    secret_sha256: str

    def active(self, at: datetime) -> bool:
        """Whether the key opens anything."""
        return self.key.revoked_at is None and (self.key.expires_at is None or at < self.key.expires_at)


async def add_key(tx: Transaction, stored: StoredKey) -> None:
    """Keep a new key."""
    key = stored.key
    await tx.execute(
        """insert into api_key (id, workspace_id, name, secret_sha256, permissions, module, created_by, created_at,
                                expires_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)""",
        key.id,
        stored.workspace_id,
        key.name,
        stored.secret_sha256,
        list(key.permissions),
        key.module,
        key.created_by,
        key.created_at,
        key.expires_at,
    )


async def find_key(tx: Transaction, key_id: str) -> StoredKey | None:
    """A key of any workspace: what a bearer of it presents."""
    row = await tx.fetchrow(f"select {_COLUMNS}, workspace_id, secret_sha256 from api_key where id = $1", key_id)
    return None if row is None else _stored(row)


async def find_key_of(tx: Transaction, workspace_id: UUID, key_id: str) -> ApiKey | None:
    """A key of this workspace."""
    row = await tx.fetchrow(f"select {_COLUMNS} from api_key where workspace_id = $1 and id = $2", workspace_id, key_id)
    return None if row is None else _key(row)


async def list_keys(tx: Transaction, workspace_id: UUID, after: str | None, limit: int) -> list[ApiKey]:
    """Keys of a workspace in order of id, revoked ones too."""
    rows = await tx.fetch(
        f"""select {_COLUMNS} from api_key where workspace_id = $1 and ($2::text is null or id > $2)
            order by id limit $3""",
        workspace_id,
        after,
        limit,
    )
    return [_key(row) for row in rows]


async def revoke_key(tx: Transaction, workspace_id: UUID, key_id: str) -> StoredKey | None:
    """Revoke a key for good; the first time stays. None when the workspace has no such key."""
    row = await tx.fetchrow(
        f"""update api_key set revoked_at = coalesce(revoked_at, $3) where workspace_id = $1 and id = $2
            returning {_COLUMNS}, workspace_id, secret_sha256""",
        workspace_id,
        key_id,
        tx.now,
    )
    return None if row is None else _stored(row)


def _stored(row: asyncpg.Record) -> StoredKey:
    return StoredKey(_key(row), row["workspace_id"], row["secret_sha256"])


def _key(row: asyncpg.Record) -> ApiKey:
    return ApiKey(
        id=row["id"],
        name=row["name"],
        permissions=tuple(row["permissions"]),
        module=row["module"],
        created_by=row["created_by"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )
