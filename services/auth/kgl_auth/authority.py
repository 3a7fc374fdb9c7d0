"""This service's own answer to "who is it?": from its tables, where the other services ask their replica."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from kgl_auth.db.workspaces import list_memberships
from kgl_auth.use_cases.check_access import (
    CheckCookie,
    CheckKey,
    CheckSession,
    SessionUnknown,
    check_cookie,
    check_key,
    check_session,
)
from kgl_servicekit.database.engine import Database
from kgl_servicekit.identity.checked import Checked, WorkspaceChoice
from kgl_servicekit.identity.credential import AccessToken, ApiKey, parse_authorization
from kgl_servicekit.identity.tokens import Claims, TokenVerifier

_SESSION = "Session "


class Newcomers(Protocol):
    """Whoever can tell whether a login goes on that began elsewhere."""

    async def admit(self, token: AccessToken, claims: Claims) -> None:
        """Know the login and its user from now on. Raises SessionEnded (401), Unavailable (503)."""
        ...


class LocalAuthority:
    """An `Authority` that is never stale; the only one that takes the cookie of a browser."""

    def __init__(
        self, database: Database, tokens: TokenVerifier, session_cookie: str, newcomers: Newcomers | None = None
    ) -> None:
        self._database = database
        self._newcomers = newcomers
        self._tokens = tokens
        self._session_cookie = session_cookie

    @property
    def session_cookie(self) -> str | None:
        return self._session_cookie

    async def check(self, authorization: str, workspace_hint: str | None, *, reading: bool) -> Checked:
        if authorization.startswith(_SESSION):
            cookie = CheckCookie(cookie=authorization.removeprefix(_SESSION), hint=workspace_hint)
            return await self._database.run((), check_cookie, cookie)
        credential = parse_authorization(authorization)
        if isinstance(credential, ApiKey):
            return await self._database.run((), check_key, CheckKey(key=credential, hint=workspace_hint))
        claims = await self._tokens.verify(credential)
        session = CheckSession(
            session_id=claims.session_id,
            user_id=claims.user_id,
            expires_at=datetime.fromtimestamp(claims.expires_at, UTC),
            hint=workspace_hint,
        )
        try:
            return await self._database.run((), check_session, session)
        except SessionUnknown:
            if self._newcomers is None:
                raise
        await self._newcomers.admit(credential, claims)
        return await self._database.run((), check_session, session)

    async def workspaces(self, user_id: UUID) -> Sequence[WorkspaceChoice]:
        found = [membership.workspace for membership in await self._database.run((), list_memberships, user_id)]
        choices = [WorkspaceChoice(id=each.id, slug=each.slug, name=each.name) for each in found]
        return sorted(choices, key=lambda choice: choice.name)
