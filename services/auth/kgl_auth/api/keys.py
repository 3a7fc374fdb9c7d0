"""API keys of the workspace: how programs and modules authenticate."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.requests import Request
from starlette.responses import Response

from kgl_auth.api.cursors import text_after
from kgl_auth.api.place import found
from kgl_auth.db import api_keys
from kgl_auth.domain.identity import ApiKey, DisplayName, ModuleName, Moment
from kgl_auth.problems import PermissionsNotYours
from kgl_auth.use_cases import change_key
from kgl_auth.use_cases.change_key import CreateKey, NewApiKey, RevokeKey
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import NotFound
from kgl_servicekit.http import ApiRouter, Caller, Page, PageParams, Reply, Run, Window, conditional, etag_of, page
from kgl_servicekit.identity.permissions import PERMISSIONS

router = ApiRouter(prefix="/keys", tags=["keys"])

KeyId = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="the 16 digits after `kgl_`")]


class NewKey(BaseModel):
    """The key to be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: DisplayName
    permissions: frozenset[str] = Field(min_length=1, description="some of your own; GET /auth/v1/roles lists all")
    module: ModuleName | None = Field(default=None, description="the module that this key speaks for")
    expires_at: Moment | None = Field(default=None, description="when the key ends by itself")

    @field_validator("permissions")
    @classmethod
    def _known(cls, permissions: frozenset[str]) -> frozenset[str]:
        if unknown := sorted(permissions - PERMISSIONS):
            raise ValueError(f"there is no permission {', '.join(unknown)}")
        return permissions

    @field_validator("expires_at")
    @classmethod
    def _ahead(cls, expires_at: datetime | None) -> datetime | None:
        if expires_at is not None and expires_at <= datetime.now(UTC):
            raise ValueError("this time is over")
        return expires_at


@router.post("", permission="keys:manage", status_code=201, secret_answer=True, problems=[PermissionsNotYours])
async def create_key(body: NewKey, caller: Caller, run: Run) -> NewApiKey:
    """Make a key. Its secret is in this answer and nowhere else, ever."""
    command = CreateKey(
        workspace_id=caller.workspace_id,
        name=body.name,
        permissions=sorted(body.permissions),
        own=caller.permissions,
        module=body.module,
        expires_at=body.expires_at,
    )
    return await run(change_key.create_key, command, reply=lambda key: Reply({"Location": f"/auth/v1/keys/{key.id}"}))


@router.get("", permission="keys:manage")
async def list_keys(caller: Caller, run: Run, window: PageParams) -> Page[ApiKey]:
    """The workspace's keys, revoked ones too, by id."""

    async def listed(tx: Transaction, asked: Window) -> list[ApiKey]:
        return await api_keys.list_keys(tx, caller.workspace_id, text_after(asked), asked.fetch)

    return page(await run(listed, window), window.limit, lambda key: key.id)


@router.get("/{key_id}", permission="keys:manage", problems=[NotFound])
async def read_key(key_id: KeyId, request: Request, response: Response, caller: Caller, run: Run) -> ApiKey:
    """One key, without its secret."""

    async def one(tx: Transaction, key_id: str) -> ApiKey | None:
        return await api_keys.find_key_of(tx, caller.workspace_id, key_id)

    key = found(await run(one, key_id))
    conditional(request, response, etag_of(key))
    return key


@router.delete("/{key_id}", permission="keys:manage", status_code=204, problems=[NotFound])
async def revoke_key(key_id: KeyId, caller: Caller, run: Run) -> None:
    """Revoke a key for good; all services refuse it within seconds."""
    await run(change_key.revoke_key, RevokeKey(workspace_id=caller.workspace_id, key_id=key_id))
