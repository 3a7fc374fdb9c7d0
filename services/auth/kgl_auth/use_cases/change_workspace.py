"""A workspace gets another name or slug."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from pydantic import JsonValue

from kgl_auth.db import workspaces
from kgl_auth.domain.announcements import workspace_changed
from kgl_auth.domain.identity import Workspace
from kgl_auth.problems import SlugTaken
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeWorkspace:
    """What changes (None stays as it is); `precondition` raises when the present state is not the expected one."""

    workspace_id: UUID
    slug: str | None
    name: str | None
    precondition: Callable[[Workspace], None]


async def change_workspace(tx: Transaction, command: ChangeWorkspace) -> Workspace:
    """Change the workspace and tell all services. Raises SlugTaken (409), and what the precondition raises."""
    workspace = await workspaces.find_workspace(tx, command.workspace_id, lock=True)
    if workspace is None:
        raise NotFound()
    command.precondition(workspace)
    wanted = {"slug": command.slug or workspace.slug, "name": command.name or workspace.name}
    changed = workspace.model_copy(update={**wanted, "version": workspace.version + 1, "updated_at": tx.now})
    if (changed.slug, changed.name) == (workspace.slug, workspace.name):
        return workspace
    if not await workspaces.update_workspace(tx, changed):
        raise SlugTaken()
    await tx.emit(workspace_changed(changed), workspace=changed.id)
    details: dict[str, JsonValue] = {"before": {"slug": workspace.slug, "name": workspace.name}, "after": {**wanted}}
    await tx.audit("workspace.change", f"workspace:{changed.id}", scope=changed.id, details=details)
    return changed
