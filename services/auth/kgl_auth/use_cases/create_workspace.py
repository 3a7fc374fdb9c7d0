"""A user makes a workspace and owns it."""

from dataclasses import dataclass
from uuid import UUID

from kgl_auth.domain.identity import Workspace
from kgl_auth.problems import SlugTaken
from kgl_auth.use_cases.open_workspace import open_workspace
from kgl_servicekit.database.transaction import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateWorkspace:
    """The workspace to be, and who owns it."""

    slug: str
    name: str
    owner_id: UUID


async def create_workspace(tx: Transaction, command: CreateWorkspace) -> Workspace:
    """Make the workspace. Raises SlugTaken (409)."""
    workspace = await open_workspace(tx, command.slug, command.name, command.owner_id)
    if workspace is None:
        raise SlugTaken()
    return workspace
