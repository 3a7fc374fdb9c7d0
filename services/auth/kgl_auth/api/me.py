"""The caller, as they see themselves, and as other services ask for them."""

from datetime import datetime

from pydantic import Field

from kgl_auth.api.workspaces import MyWorkspace
from kgl_auth.db.users import find_user
from kgl_auth.db.workspaces import find_workspace, list_memberships
from kgl_auth.domain.identity import Shown, User
from kgl_auth.domain.roles import permissions_of
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.http import ApiRouter, Caller, RequestCaller, Run
from kgl_servicekit.identity.checked import CheckAnswer

router = ApiRouter(tags=["identity"])


class Me(Shown):
    """The caller and their workspaces; a key has one, and no user."""

    principal: str = Field(description="user:<id> or key:<id>, as in events and audit records")
    user: User | None
    module: str | None
    workspaces: tuple[MyWorkspace, ...]
    expires_at: datetime | None = Field(description="when the credential of this request ends")


@router.get("/me", permission=None)
async def me(caller: Caller, run: Run) -> Me:
    """Who the credential stands for."""
    return await run(_me, caller)


@router.get("/check", permission=None, cache="no-store")
async def check(caller: Caller) -> CheckAnswer:
    """What the credential may do in the workspace named with it; services ask when their replica cannot tell."""
    return CheckAnswer.of(caller.checked)


async def _me(tx: Transaction, caller: RequestCaller) -> Me:
    user, mine = None, []
    if caller.user_id is not None:
        user = await find_user(tx, caller.user_id)
        mine = [
            MyWorkspace.of(each.workspace, each.roles, permissions_of(each.roles))
            for each in await list_memberships(tx, caller.user_id)
        ]
    elif (workspace := await find_workspace(tx, caller.workspace_id)) is not None:
        mine = [MyWorkspace.of(workspace, (), caller.permissions)]
    return Me(
        principal=caller.principal,
        user=user,
        module=caller.module,
        workspaces=tuple(mine),
        expires_at=caller.token_expires_at,
    )
