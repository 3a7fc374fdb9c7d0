"""The groups of a user at the identity provider become roles here, and go with them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from loguru import logger
from pydantic import JsonValue

from kgl_auth.db import group_grants, members, workspaces
from kgl_auth.domain.announcements import membership_changed
from kgl_auth.domain.group_roles import GroupRolesMap, by_workspace
from kgl_auth.domain.roles import OWNER
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.identity.permissions import INSTANCE_WORKSPACE


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyGroups:
    """All groups that a known user is in now, by path, and the roles that groups give."""

    user_id: UUID
    groups: tuple[str, ...]
    group_roles: GroupRolesMap = field(repr=False)


async def apply_groups(tx: Transaction, command: ApplyGroups) -> None:
    """Give what the groups give, and take what groups gave before and give no longer.

    Roles that somebody has given here stay. A workspace that does not exist yet gives nothing until it does. The
    last owner of a workspace stays its owner.
    """
    before = await group_grants.list_grants(tx, command.user_id)
    wanted = await _by_id(tx, by_workspace(command.groups, command.group_roles))
    for workspace_id in sorted({*before, *wanted}):
        await _apply(tx, workspace_id, command.user_id, before.get(workspace_id, ()), wanted.get(workspace_id, ()))


async def _by_id(tx: Transaction, by_slug: Mapping[str | None, tuple[str, ...]]) -> dict[UUID, tuple[str, ...]]:
    found = {}
    for slug, roles in by_slug.items():
        workspace = None if slug is None else await workspaces.find_workspace_by_slug(tx, slug)
        if slug is None:
            found[INSTANCE_WORKSPACE] = roles
        elif workspace is None:
            logger.bind(workspace=slug).warning("group_roles.workspace_unknown")
        else:
            found[workspace.id] = roles
    return found


async def _apply(
    tx: Transaction, workspace_id: UUID, user_id: UUID, granted: tuple[str, ...], wanted: tuple[str, ...]
) -> None:
    await workspaces.find_workspace(tx, workspace_id, lock=True)
    now = await workspaces.find_roles(tx, workspace_id, user_id) or ()
    gone = set(granted) - set(wanted)
    if OWNER in gone and OWNER in now and not await members.has_other_owner(tx, workspace_id, user_id):
        gone.remove(OWNER)
        wanted = (*wanted, OWNER)
    roles = tuple(dict.fromkeys([*(role for role in now if role not in gone), *wanted]))
    await group_grants.put_grant(
        tx, workspace_id, user_id, [role for role in wanted if role in granted or role not in now]
    )
    if roles == now:
        return
    scope = None if workspace_id == INSTANCE_WORKSPACE else workspace_id
    if roles:
        await members.put_member(tx, workspace_id, user_id, roles)
    else:
        await members.delete_member(tx, workspace_id, user_id)
    changed = membership_changed(workspace_id, user_id, roles, deleted=not roles)
    await (tx.emit(changed, instance=True) if scope is None else tx.emit(changed, workspace=scope))
    details: dict[str, JsonValue] = {"before": list(now), "after": list(roles), "by": "groups"}
    await tx.audit("member.change", f"user:{user_id}", scope=scope, details=details)
