"""Members of a workspace, and the roles that they can have."""

from typing import Annotated
from uuid import UUID

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from kgl_auth.api.cursors import id_after
from kgl_auth.api.place import Place, found, place, unless_changed
from kgl_auth.db import members
from kgl_auth.domain.identity import Member, Shown
from kgl_auth.domain.roles import RoleName
from kgl_auth.problems import LastOwner, PermissionsNotYours, UserUnknown
from kgl_auth.use_cases import change_member
from kgl_auth.use_cases.change_member import PutMember, RemoveMember
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import NotFound, PreconditionFailed
from kgl_servicekit.http import ApiRouter, IfMatch, Page, PageParams, Reply, Run, Window, conditional, etag_of, page
from kgl_servicekit.identity.permissions import ROLES

router = ApiRouter(tags=["members"])

UserId = Annotated[UUID, Path(description="id of the user")]


class Role(Shown):
    """A role, and what it allows."""

    name: str
    permissions: tuple[str, ...]


class Roles(BaseModel):
    """The roles that a member shall have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    roles: tuple[RoleName, ...] = Field(min_length=1, max_length=len(ROLES))


@router.get("/roles", permission=None, cache=300)
async def list_roles() -> Page[Role]:
    """The built-in roles and their permissions."""
    return Page(items=tuple(Role(name=name, permissions=tuple(sorted(ROLES[name]))) for name in ROLES))


@router.get("/workspaces/{workspace_id}/members", permission=None, problems=[NotFound])
async def list_members(run: Run, window: PageParams, here: Annotated[Place, place("workspace:read")]) -> Page[Member]:
    """The members, by user id."""

    async def listed(tx: Transaction, asked: Window) -> list[Member]:
        return await members.list_members(tx, here.workspace_id, id_after(asked), asked.fetch)

    return page(await run(listed, window), window.limit, lambda member: str(member.user_id))


@router.get("/workspaces/{workspace_id}/members/{user_id}", permission=None, problems=[NotFound])
async def read_member(
    user_id: UserId, request: Request, response: Response, run: Run, here: Annotated[Place, place("workspace:read")]
) -> Member:
    """One member."""

    async def one(tx: Transaction, user_id: UUID) -> Member | None:
        return await members.find_member(tx, here.workspace_id, user_id)

    member = found(await run(one, user_id))
    conditional(request, response, etag_of(member))
    return member


@router.put(
    "/workspaces/{workspace_id}/members/{user_id}",
    permission=None,
    problems=[UserUnknown, PermissionsNotYours, LastOwner, PreconditionFailed],
)
async def put_member(
    user_id: UserId, body: Roles, run: Run, if_match: IfMatch, here: Annotated[Place, place("members:manage")]
) -> Member:
    """Make a user a member, or give a member other roles. Nobody can give more than they have."""
    command = PutMember(
        workspace_id=here.workspace_id,
        user_id=user_id,
        roles=body.roles,
        own=here.permissions,
        precondition=unless_changed(if_match),
    )
    return await run(change_member.put_member, command, reply=lambda member: Reply({"ETag": etag_of(member)}))


@router.delete(
    "/workspaces/{workspace_id}/members/{user_id}",
    permission=None,
    status_code=204,
    problems=[PermissionsNotYours, LastOwner, PreconditionFailed],
)
async def remove_member(
    user_id: UserId, run: Run, if_match: IfMatch, here: Annotated[Place, place("workspace:read")]
) -> None:
    """End a membership. Everybody may leave by themselves; the last owner cannot."""
    command = RemoveMember(
        workspace_id=here.workspace_id,
        user_id=user_id,
        own=here.permissions,
        by_themselves=here.user_id == user_id,
        precondition=unless_changed(if_match),
    )
    await run(change_member.remove_member, command)
