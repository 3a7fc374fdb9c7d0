"""The workspace that an address names, and what the caller may do there.

Elsewhere a request names its workspace beside the address; here the workspace is the resource itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from fastapi import Depends
from pydantic import BaseModel

from kgl_auth.db.workspaces import find_roles
from kgl_auth.domain.roles import permissions_of
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import NotFound, PreconditionFailed
from kgl_servicekit.http import Caller, Condition, Run, etag_of
from kgl_servicekit.http.guard import PermissionMissing

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Place:
    """A workspace in which the caller has these permissions; `user_id` is None for a key."""

    workspace_id: UUID
    permissions: frozenset[str]
    user_id: UUID | None


def place(permission: str) -> Any:
    """The workspace of the address, where the caller must have this permission.

    Raises NotFound (404) for a workspace of others as for none, PermissionMissing (403).
    """

    async def find(workspace_id: UUID, caller: Caller, run: Run) -> Place:
        own: frozenset[str] | None = None
        if caller.user_id is not None:
            roles = await run.read(_roles, (workspace_id, caller.user_id))
            own = None if roles is None else frozenset(permissions_of(roles))
        elif caller.workspace_if_named == workspace_id:
            own = caller.permissions
        if own is None:
            raise NotFound()
        if permission not in own:
            raise PermissionMissing(permission=permission)
        return Place(workspace_id, own, caller.user_id)

    return Depends(find)


def unless_changed(condition: Condition) -> Callable[[BaseModel | None], None]:
    """The check of If-Match against what is there in the transaction; None is there for nothing."""

    def check(present: BaseModel | None) -> None:
        if present is not None:
            condition.check(etag_of(present))
        elif condition.tags is not None:
            raise PreconditionFailed()

    return check


def found(resource: T | None) -> T:
    """The resource; raises NotFound (404) when there is none."""
    if resource is None:
        raise NotFound()
    return resource


async def _roles(tx: Transaction, asked: tuple[UUID, UUID]) -> tuple[str, ...] | None:
    return await find_roles(tx, *asked)
