"""What happens at Keycloak is noticed here: who is disabled, deleted or logged out, and whose groups change."""

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from loguru import logger

from kgl_auth.db.group_grants import list_users_with_grants
from kgl_auth.db.provider_events import find_position, move_position
from kgl_auth.db.sessions import list_users_with_sessions
from kgl_auth.db.users import find_user
from kgl_auth.metrics import PROVIDER_READ_AT
from kgl_auth.settings import AuthSettings
from kgl_auth.stores.keycloak_admin import KeycloakUsers
from kgl_auth.use_cases.apply_groups import ApplyGroups, apply_groups
from kgl_auth.use_cases.end_session import EndForeignSession, EndSession, end_foreign_session, end_session
from kgl_auth.use_cases.revoke_user import RevokeUser, revoke_user
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.waiting import repeat

_NAME = "keycloak"
_OVERLAP = timedelta(seconds=30)  # an event may be seen some time after the moment that it bears
_SKEW = timedelta(minutes=5)  # by which our clock may be ahead of Keycloak's
_KEPT = timedelta(days=1)  # less than Keycloak keeps events
_A_SECOND = timedelta(seconds=1)  # tokens bear whole seconds


class KeycloakWatch:
    """Reads the realm's events every 15 seconds from where it stopped, by our database.

    Each event makes us look at the present state, or ends what has ended: reading one twice, in this worker or in
    several, changes nothing. After a day without a look, everybody with a login is looked at instead.
    """

    def __init__(
        self,
        database: Database,
        users: KeycloakUsers,
        settings: AuthSettings,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._users = users
        self._settings = settings
        self._now = now
        self._read_at: datetime | None = None
        self._seen: dict[str, datetime] = {}

    async def run(self) -> None:
        """Read until cancelled; an outage of Keycloak or of the database is waited for."""
        await repeat(self.read, self._settings.keycloak_events_seconds, postponed="keycloak.events_postponed")

    async def read(self) -> None:
        """Take in what has happened since the last time. Raises Unavailable; what was taken in is not undone."""
        started = self._now()
        position = await self._database.run((), find_position, _NAME)
        reached = position or started - _SKEW
        since = reached - _OVERLAP
        last = self._read_at or position
        if last is None or started - last > _KEPT:
            await self._look_at_everybody(started)
        events = [*await self._users.admin_events(since), *await self._users.user_events(since)]
        own = await self._users.own_id() if events else ""
        looks: dict[UUID, datetime] = {}
        for event in sorted(events, key=_time_of):
            if str(event.get("id")) in self._seen or (event.get("authDetails") or {}).get("userId") == own:
                continue
            if (user_id := await self._take_in(event, _time_of(event))) is not None:
                looks[user_id] = _time_of(event)  # of the last one: tokens may have been given since the first
        for user_id, at in looks.items():
            await self._look_at(user_id, at)
        newest = max([reached, *map(_time_of, events)])
        await self._database.run((), move_position, (_NAME, newest))
        self._seen |= {str(event.get("id")): _time_of(event) for event in events}
        self._seen = {name: at for name, at in self._seen.items() if at >= newest - _OVERLAP}
        self._read_at = started
        PROVIDER_READ_AT.set(time.time())

    async def _take_in(self, event: dict[str, Any], at: datetime) -> UUID | None:
        """End what has ended; the user whose present state has to be looked at, if any."""
        kind, path = event.get("resourceType"), str(event.get("resourcePath") or "").split("/")
        user_id = _uuid(event.get("userId") if kind is None else path[1] if len(path) > 1 else None)
        if event.get("type") == "LOGOUT" and user_id is not None and event.get("sessionId"):
            await self._end_session(str(event["sessionId"]), user_id, str(event.get("clientId")))
        elif kind == "USER_SESSION" and len(path) > 1:
            await self._database.run((), end_session, EndSession(session_id=path[1], reason="ended_at_provider"))
        elif kind == "REALM" and path[-1] == "logout-all":
            await self._put_out(await self._users_with_sessions(), at, "logged_out_at_provider")
        elif kind == "GROUP" and event.get("operationType") in {"UPDATE", "DELETE"}:
            for each in await self._database.run((), list_users_with_grants, None):
                await self._apply_groups(each)
        elif kind == "GROUP_MEMBERSHIP" and user_id is not None:
            await self._apply_groups(user_id)
        elif kind == "USER" and path[-1] == "logout" and user_id is not None:
            await self._put_out([user_id], at, "logged_out_at_provider")
        elif user_id is not None and (kind == "USER" or kind is None):
            return user_id
        return None

    async def _look_at(self, user_id: UUID, at: datetime) -> None:
        """Put a user out who may not log in any more."""
        user = await self._users.find(user_id)
        if user is None:
            await self._put_out([user_id], at, "deleted_at_provider")
        elif not user.enabled:
            await self._put_out([user_id], at, "disabled_at_provider")
            # Keycloak keeps the logins of a disabled user: without this they would go on when enabled again
            await self._users.log_out_everywhere(user_id)

    async def _look_at_everybody(self, at: datetime) -> None:
        for user_id in await self._users_with_sessions():
            await self._look_at(user_id, at)

    async def _users_with_sessions(self) -> list[UUID]:
        found: list[UUID] = []
        while page := await self._database.run((), list_users_with_sessions, found[-1] if found else None):
            found.extend(page)
        return found

    async def _put_out(self, user_ids: Iterable[UUID], at: datetime, reason: str) -> None:
        for user_id in user_ids:
            command = RevokeUser(user_id=user_id, before=at + _A_SECOND, reason=reason)
            if await self._database.run((), revoke_user, command):
                logger.bind(user=str(user_id), reason=reason).info("user.revoked")

    async def _end_session(self, session_id: str, user_id: UUID, client_id: str) -> None:
        command = EndForeignSession(session_id=session_id, user_id=user_id, client_id=client_id)
        await self._database.run((), end_foreign_session, command)

    async def _apply_groups(self, user_id: UUID) -> None:
        groups = await self._users.groups(user_id)
        command = ApplyGroups(user_id=user_id, groups=groups, group_roles=self._settings.group_roles)
        await self._database.run((), _apply_to_known, command)


async def _apply_to_known(tx: Transaction, command: ApplyGroups) -> None:
    if await find_user(tx, command.user_id) is not None:
        await apply_groups(tx, command)


def _time_of(event: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(int(event["time"]) / 1000, UTC)


def _uuid(text: Any) -> UUID | None:
    try:
        return UUID(text) if isinstance(text, str) else None
    except ValueError:
        return None
