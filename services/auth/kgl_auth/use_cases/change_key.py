"""API keys are made and revoked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from pydantic import Field, JsonValue

from kgl_auth.db import api_keys
from kgl_auth.db.api_keys import StoredKey
from kgl_auth.domain.announcements import key_changed
from kgl_auth.domain.identity import ApiKey
from kgl_auth.domain.roles import missing
from kgl_auth.problems import PermissionsNotYours
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import NotFound
from kgl_servicekit.identity import credential


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateKey:
    """The key to be; `own` are the permissions of whoever makes it. `module` is the one that it speaks for.

    `given` is a key that was drawn elsewhere; a new one is drawn without it.
    """

    workspace_id: UUID
    name: str
    permissions: Sequence[str]
    own: frozenset[str]
    module: str | None = None
    expires_at: datetime | None = None
    given: credential.ApiKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeKey:
    """Which key of which workspace."""

    workspace_id: UUID
    key_id: str


class NewApiKey(ApiKey):
    """A key that was just made: the only time that its secret is shown."""

    key: str = Field(description="send it as `Authorization: Bearer <key>`; it cannot be shown again")


async def create_key(tx: Transaction, command: CreateKey) -> NewApiKey:
    """Make a key and tell all services its hash. Raises PermissionsNotYours (403)."""
    if lacking := missing(command.permissions, command.own):
        raise PermissionsNotYours(missing=lacking)
    made = command.given or credential.ApiKey.generate()
    key = ApiKey(
        id=made.id,
        name=command.name,
        permissions=tuple(sorted(set(command.permissions))),
        module=command.module,
        created_by=tx.cause.actor,
        created_at=tx.now,
        expires_at=command.expires_at,
    )
    await api_keys.add_key(tx, StoredKey(key, command.workspace_id, made.secret_sha256))
    await tx.emit(key_changed(command.workspace_id, key, made.secret_sha256), workspace=command.workspace_id)
    details: dict[str, JsonValue] = {"name": key.name, "permissions": list(key.permissions), "module": key.module}
    await tx.audit("key.create", f"key:{key.id}", scope=command.workspace_id, details=details)
    return NewApiKey(**key.model_dump(), key=made.text)


async def revoke_key(tx: Transaction, command: RevokeKey) -> None:
    """Revoke a key for good; a second time changes nothing. Raises NotFound (404)."""
    stored = await api_keys.revoke_key(tx, command.workspace_id, command.key_id)
    if stored is None:
        raise NotFound()
    if stored.key.revoked_at != tx.now:
        return
    await tx.emit(key_changed(command.workspace_id, stored.key, stored.secret_sha256), workspace=command.workspace_id)
    await tx.audit("key.revoke", f"key:{command.key_id}", scope=command.workspace_id)
