"""A new workspace and its first owner: what registration, the API and the first start have in common."""

from uuid import UUID

from kgl_auth.db import members, workspaces
from kgl_auth.domain.announcements import membership_changed, workspace_changed
from kgl_auth.domain.identity import User, Workspace
from kgl_auth.domain.slugs import another_slug, slug_of
from kgl_servicekit.database.transaction import Transaction

OWNER = "owner"


async def open_workspace(tx: Transaction, slug: str, name: str, owner_id: UUID) -> Workspace | None:
    """Make a workspace and its owner, and tell all services; None when the slug is taken."""
    workspace = Workspace(
        id=tx.new_id("workspace"), slug=slug, name=name, version=1, created_at=tx.now, updated_at=tx.now
    )
    if not await workspaces.add_workspace(tx, workspace):
        return None
    await members.put_member(tx, workspace.id, owner_id, [OWNER])
    await tx.emit(workspace_changed(workspace), workspace=workspace.id)
    await tx.emit(membership_changed(workspace.id, owner_id, (OWNER,)), workspace=workspace.id)
    await tx.audit("workspace.create", f"workspace:{workspace.id}", scope=workspace.id, details={"slug": slug})
    return workspace


async def open_personal_workspace(tx: Transaction, user: User) -> Workspace:
    """The workspace that a user gets with the account, with a slug of their name or like it."""
    slug = slug_of(user.name)
    while (workspace := await open_workspace(tx, slug, user.name, user.id)) is None:
        slug = another_slug(slug)
    return workspace
