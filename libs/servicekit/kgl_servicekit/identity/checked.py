"""The answer to "who is this, and what may they do here?", and the port of those who know it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """An authenticated principal, in the workspace that the request named (or in none).

    principal   user:<uuid> or key:<id>, as it stands in events and audit records
    permissions those in the workspace, and instance permissions
    module      name of the module that the key speaks for
    expires_at  when the credential ends by itself
    """

    principal: str
    user_id: UUID | None = None
    workspace_id: UUID | None = None
    permissions: frozenset[str] = frozenset()
    module: str | None = None
    expires_at: datetime | None = None


class CheckAnswer(BaseModel):
    """A `Checked` as auth's check endpoint answers it."""

    model_config = ConfigDict(frozen=True)

    principal: str
    user_id: UUID | None = None
    workspace_id: UUID | None = None
    permissions: tuple[str, ...] = ()
    module: str | None = None
    session_active: bool = True
    expires_at: datetime | None = None

    @classmethod
    def of(cls, checked: Checked) -> "CheckAnswer":
        return cls(
            principal=checked.principal,
            user_id=checked.user_id,
            workspace_id=checked.workspace_id,
            permissions=tuple(sorted(checked.permissions)),
            module=checked.module,
            expires_at=checked.expires_at,
        )

    def checked(self) -> Checked:
        """The answer as the checking service uses it."""
        return Checked(
            principal=self.principal,
            user_id=self.user_id,
            workspace_id=self.workspace_id,
            permissions=frozenset(self.permissions),
            module=self.module,
            expires_at=self.expires_at,
        )


class WorkspaceChoice(BaseModel):
    """A workspace that a user may name."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    slug: str
    name: str


class Authority(Protocol):
    """Whoever can tell what a credential is worth. auth has one over its own tables; others use the replica."""

    @property
    def session_cookie(self) -> str | None:
        """Name of the login cookie that this service accepts; None everywhere but in auth."""
        ...

    async def check(self, authorization: str, workspace_hint: str | None, *, reading: bool) -> Checked:
        """Check a credential, for the workspace of this id or slug when one is named.

        `authorization` is the value of the header (`Bearer ...`), or `Session <cookie value>`. `reading` is
        true for GET and HEAD, which go on for a while when auth cannot be asked. Raises Unauthorized,
        Forbidden (also for a workspace that does not exist), Unavailable in an outage.
        """
        ...

    async def workspaces(self, user_id: UUID) -> Sequence[WorkspaceChoice]:
        """The workspaces of a user, by name."""
        ...
