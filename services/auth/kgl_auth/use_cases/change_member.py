"""A user becomes a member, gets other roles, or leaves."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from pydantic import JsonValue

from kgl_auth.db import members, users, workspaces
from kgl_auth.domain.announcements import membership_changed
from kgl_auth.domain.identity import Member
from kgl_auth.domain.roles import OWNER, missing, permissions_of
from kgl_auth.problems import LastOwner, PermissionsNotYours, UserUnknown
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class PutMember:
    """The roles that a user shall have; `own` are the permissions of the one who gives them.

    `precondition` raises when the present membership is not the expected one.
    """

    workspace_id: UUID
    user_id: UUID
    roles: Sequence[str]
    own: frozenset[str]
    precondition: Callable[[Member | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveMember:
    """Who leaves, and the permissions of the one who says so; whoever leaves by themselves needs none.

    `precondition` is that of `PutMember`.
    """

    workspace_id: UUID
    user_id: UUID
    own: frozenset[str]
    by_themselves: bool
    precondition: Callable[[Member | None], None]


async def put_member(tx: Transaction, command: PutMember) -> Member:
    """Give the roles. Raises UserUnknown (404), PermissionsNotYours (403), LastOwner (409)."""
    workspace_id, user_id = command.workspace_id, command.user_id
    before = await _roles_now(tx, workspace_id, user_id)
    command.precondition(await members.find_member(tx, workspace_id, user_id))
    roles = tuple(dict.fromkeys(command.roles))
    _refuse_beyond(permissions_of({*roles, *before}), command.own)
    if await users.find_user(tx, user_id) is None:
        raise UserUnknown()
    if OWNER not in roles:
        await _refuse_last_owner(tx, workspace_id, user_id, before)
    if roles != before:
        await members.put_member(tx, workspace_id, user_id, roles)
        await tx.emit(membership_changed(workspace_id, user_id, roles), workspace=workspace_id)
        details: dict[str, JsonValue] = {"before": list(before), "after": list(roles)}
        await tx.audit("member.change", f"user:{user_id}", scope=workspace_id, details=details)
    member = await members.find_member(tx, workspace_id, user_id)
    assert member is not None
    return member


async def remove_member(tx: Transaction, command: RemoveMember) -> None:
    """End the membership; nothing happens where there is none. Raises PermissionsNotYours (403), LastOwner (409)."""
    workspace_id, user_id = command.workspace_id, command.user_id
    before = await _roles_now(tx, workspace_id, user_id)
    command.precondition(await members.find_member(tx, workspace_id, user_id))
    if not command.by_themselves:
        _refuse_beyond({"members:manage", *permissions_of(before)}, command.own)
    if not before:
        return
    await _refuse_last_owner(tx, workspace_id, user_id, before)
    await members.delete_member(tx, workspace_id, user_id)
    await tx.emit(membership_changed(workspace_id, user_id, (), deleted=True), workspace=workspace_id)
    await tx.audit("member.remove", f"user:{user_id}", scope=workspace_id, details={"before": list(before)})


async def _roles_now(tx: Transaction, workspace_id: UUID, user_id: UUID) -> tuple[str, ...]:
    """The user's roles, which stay so until this transaction ends: changes of members go one after the other."""
    if await workspaces.find_workspace(tx, workspace_id, lock=True) is None:
        raise NotFound()
    return await workspaces.find_roles(tx, workspace_id, user_id) or ()


def _refuse_beyond(wanted: Iterable[str], own: frozenset[str]) -> None:
    if lacking := missing(wanted, own):
        raise PermissionsNotYours(missing=lacking)


async def _refuse_last_owner(tx: Transaction, workspace_id: UUID, user_id: UUID, before: Sequence[str]) -> None:
    if OWNER in before and not await members.has_other_owner(tx, workspace_id, user_id):
        raise LastOwner()
