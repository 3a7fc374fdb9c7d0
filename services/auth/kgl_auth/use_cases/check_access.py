"""Who is it, and what may they do in the workspace that they name? Asked for every request, and changes nothing."""

import hmac
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from kgl_auth.db import api_keys, sessions, workspaces
from kgl_auth.domain.identity import Workspace
from kgl_auth.domain.roles import permissions_of
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.identity.checked import Checked
from kgl_servicekit.identity.credential import ApiKey
from kgl_servicekit.identity.permissions import INSTANCE_WORKSPACE
from kgl_servicekit.identity.problems import KeyInvalid, SessionEnded, WorkspaceDenied, WorkspaceMismatch


class SessionUnknown(SessionEnded):
    """The session of this token has ended; log in again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckKey:
    """An API key as it was presented, and the workspace that was named with it."""

    key: ApiKey
    hint: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSession:
    """A login session that a verified token speaks of; `expires_at` is the token's end."""

    session_id: str | None
    user_id: UUID
    expires_at: datetime
    hint: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckCookie:
    """A browser's cookie."""

    cookie: str = field(repr=False)
    hint: str | None


async def check_key(tx: Transaction, command: CheckKey) -> Checked:
    """The principal behind a key. Raises KeyInvalid (401), WorkspaceMismatch (403)."""
    stored = await api_keys.find_key(tx, command.key.id)
    if stored is None or not hmac.compare_digest(stored.secret_sha256, command.key.secret_sha256):
        raise KeyInvalid()
    if not stored.active(tx.now):
        raise KeyInvalid()
    workspace_id = stored.workspace_id
    if command.hint is not None:
        workspace = await _named(tx, command.hint)
        # a module of the whole installation works in any workspace that it names
        if workspace is not None and workspace_id == INSTANCE_WORKSPACE:
            workspace_id = workspace.id
        if workspace is None or workspace.id != workspace_id:
            raise WorkspaceMismatch()
    return Checked(
        principal=f"key:{stored.key.id}",
        workspace_id=workspace_id,
        permissions=frozenset(stored.key.permissions),
        module=stored.key.module,
        expires_at=stored.key.expires_at,
    )


async def check_session(tx: Transaction, command: CheckSession) -> Checked:
    """The user behind a token, while their session lasts. Raises SessionEnded (401), WorkspaceDenied (403).

    Of a session that was never seen here, SessionUnknown.
    """
    session = None if command.session_id is None else await sessions.find_session(tx, command.session_id)
    if session is None:
        raise SessionUnknown()
    if session.user_id != command.user_id or not session.active(tx.now):
        raise SessionEnded()
    return await _user(tx, session.user_id, command.expires_at, command.hint)


async def check_cookie(tx: Transaction, command: CheckCookie) -> Checked:
    """The user behind a cookie. Raises SessionEnded (401), WorkspaceDenied (403)."""
    browser = await sessions.find_browser_session(tx, command.cookie)
    session = None if browser is None else await sessions.find_session(tx, browser.session_id)
    if session is None or not session.active(tx.now):
        raise SessionEnded()
    return await _user(tx, session.user_id, session.expires_at, command.hint)


async def _user(tx: Transaction, user_id: UUID, expires_at: datetime, hint: str | None) -> Checked:
    permissions = set(permissions_of(await workspaces.find_roles(tx, INSTANCE_WORKSPACE, user_id) or ()))
    workspace_id = None
    if hint is not None:
        workspace = await _named(tx, hint)
        roles = None if workspace is None else await workspaces.find_roles(tx, workspace.id, user_id)
        if workspace is None or roles is None:
            raise WorkspaceDenied()
        workspace_id = workspace.id
        permissions.update(permissions_of(roles))
    return Checked(
        principal=f"user:{user_id}",
        user_id=user_id,
        workspace_id=workspace_id,
        permissions=frozenset(permissions),
        expires_at=expires_at,
    )


async def _named(tx: Transaction, hint: str) -> Workspace | None:
    try:
        return await workspaces.find_workspace(tx, UUID(hint))
    except ValueError:
        return await workspaces.find_workspace_by_slug(tx, hint)
