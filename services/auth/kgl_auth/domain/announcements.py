"""The events of kgl.identity: each says the full state of its key."""

from uuid import UUID

from kgl_auth.domain.identity import ApiKey, Module, Workspace
from kgl_auth.domain.roles import permissions_of
from kgl_contracts.identity import KeyChanged, MembershipChanged, ModuleChanged, WorkspaceChanged


def workspace_changed(workspace: Workspace) -> WorkspaceChanged:
    """A workspace as it is now."""
    return WorkspaceChanged(
        key_id=f"workspace:{workspace.id}", workspace_id=workspace.id, slug=workspace.slug, name=workspace.name
    )


def membership_changed(
    workspace_id: UUID, user_id: UUID, roles: tuple[str, ...], *, deleted: bool = False
) -> MembershipChanged:
    """What a user may do in a workspace from now on."""
    return MembershipChanged(
        key_id=f"membership:{workspace_id}:{user_id}",
        workspace_id=workspace_id,
        user_id=user_id,
        roles=roles,
        permissions=permissions_of(roles),
        deleted=deleted,
    )


def key_changed(workspace_id: UUID, key: ApiKey, secret_sha256: str) -> KeyChanged:
    """An API key as it is now."""
    return KeyChanged(
        key_id=f"key:{key.id}",
        api_key_id=key.id,
        workspace_id=workspace_id,
        secret_sha256=secret_sha256,
        permissions=key.permissions,
        module=key.module,
        expires_at=key.expires_at,
        revoked=key.revoked_at is not None,
    )


def module_changed(workspace_id: UUID, module: Module, *, deleted: bool = False) -> ModuleChanged:
    """A module as it is enabled now."""
    return ModuleChanged(
        key_id=f"module:{workspace_id}:{module.name}",
        workspace_id=workspace_id,
        module=module.name,
        capabilities=module.capabilities,
        mode=module.mode,
        deadline_seconds=module.deadline_seconds,
        deleted=deleted,
    )
