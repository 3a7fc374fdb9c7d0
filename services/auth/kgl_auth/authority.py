"""This service's own answer to "who is it?": from its tables, where the other services ask their replica."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from kgl_auth.db.workspaces import list_memberships
from kgl_auth.use_cases.check_access import (
    CheckCookie,
    CheckKey,
    CheckSession,
    check_cookie,
    check_key,
    check_session,
)
from kgl_servicekit.database.engine import Database
from kgl_servicekit.identity.checked import Checked, WorkspaceChoice
from kgl_servicekit.identity.credential import ApiKey, parse_authorization
from kgl_servicekit.identity.tokens import TokenVerifier

_SESSION = "Session "


class LocalAuthority:
    """An `Authority` that is never stale; the only one that takes the cookie of a browser."""

    def __init__(self, database: Database, tokens: TokenVerifier, session_cookie: str) -> None:
        self._database = database
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
        return await self._database.run((), check_session, session)

    async def workspaces(self, user_id: UUID) -> Sequence[WorkspaceChoice]:
        found = [membership.workspace for membership in await self._database.run((), list_memberships, user_id)]
        choices = [WorkspaceChoice(id=each.id, slug=each.slug, name=each.name) for each in found]
        return sorted(choices, key=lambda choice: choice.name)
