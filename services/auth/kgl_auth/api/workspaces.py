"""Workspaces: tenants, made and owned by users."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, model_validator
from starlette.requests import Request
from starlette.responses import Response

from kgl_auth.api.cursors import text_after
from kgl_auth.api.place import Place, found, place, unless_changed
from kgl_auth.db.workspaces import find_workspace, list_memberships
from kgl_auth.domain.identity import DisplayName, Workspace
from kgl_auth.domain.roles import permissions_of
from kgl_auth.domain.slugs import Slug
from kgl_auth.problems import SlugTaken
from kgl_auth.use_cases import change_workspace as changing
from kgl_auth.use_cases import create_workspace as creating
from kgl_servicekit.errors import NotFound, PreconditionFailed
from kgl_servicekit.http import (
    SESSION,
    ApiRouter,
    Caller,
    IfMatch,
    Page,
    PageParams,
    Reply,
    Run,
    conditional,
    etag_of,
    page,
)
from kgl_servicekit.http.guard import UserRequired

router = ApiRouter(prefix="/workspaces", tags=["workspaces"])


class NewWorkspace(BaseModel):
    """The workspace to be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slug: Slug
    name: DisplayName


class WorkspaceChange(BaseModel):
    """What changes; what is left out stays as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slug: Slug | None = None
    name: DisplayName | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.slug is None and self.name is None:
            raise ValueError("name what changes: slug, name, or both")
        return self


class MyWorkspace(Workspace):
    """A workspace, and what its reader may do there."""

    roles: tuple[str, ...]
    permissions: tuple[str, ...]

    @classmethod
    def of(cls, workspace: Workspace, roles: Sequence[str], permissions: Iterable[str]) -> Self:
        """The workspace for a reader with these roles and permissions."""
        return cls(**workspace.model_dump(), roles=tuple(roles), permissions=tuple(sorted(permissions)))


@router.post("", permission=SESSION, status_code=201, problems=[SlugTaken, UserRequired])
async def create_workspace(body: NewWorkspace, caller: Caller, run: Run) -> Workspace:
    """Make a workspace; its maker owns it."""
    assert caller.user_id is not None
    command = creating.CreateWorkspace(slug=body.slug, name=body.name, owner_id=caller.user_id)
    return await run(creating.create_workspace, command, reply=_at)


@router.get("", permission=SESSION)
async def list_workspaces(caller: Caller, run: Run, window: PageParams) -> Page[MyWorkspace]:
    """The caller's workspaces, by slug."""
    assert caller.user_id is not None
    after = text_after(window)
    mine = [
        MyWorkspace.of(each.workspace, each.roles, permissions_of(each.roles))
        for each in await run(list_memberships, caller.user_id)
        if after is None or each.workspace.slug > after
    ]
    return page(mine[: window.fetch], window.limit, lambda each: each.slug)


@router.get("/{workspace_id}", permission=None, problems=[NotFound])
async def read_workspace(
    request: Request, response: Response, run: Run, here: Annotated[Place, place("workspace:read")]
) -> Workspace:
    """One workspace."""
    workspace = found(await run(find_workspace, here.workspace_id))
    conditional(request, response, etag_of(workspace))
    return workspace


@router.patch("/{workspace_id}", permission=None, problems=[NotFound, SlugTaken, PreconditionFailed])
async def change_workspace(
    body: WorkspaceChange, run: Run, if_match: IfMatch, here: Annotated[Place, place("workspace:manage")]
) -> Workspace:
    """Rename a workspace. Send the ETag that you read in If-Match, and nobody's change is lost."""
    command = changing.ChangeWorkspace(
        workspace_id=here.workspace_id, slug=body.slug, name=body.name, precondition=unless_changed(if_match)
    )
    return await run(changing.change_workspace, command, reply=lambda changed: Reply({"ETag": etag_of(changed)}))


def _at(workspace: Workspace) -> Reply:
    return Reply({"Location": f"/auth/v1/workspaces/{workspace.id}", "ETag": etag_of(workspace)})
