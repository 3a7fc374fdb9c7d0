"""Users and events of a Keycloak realm, by its admin API.

python-keycloak knows the addresses; connections, timeouts and tokens are ours: it would wait for a minute, send
what it gets through proxies of the environment, and change shared headers while other requests are under way.
"""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import httpx
from keycloak import KeycloakAdmin, KeycloakOpenIDConnection
from keycloak.exceptions import KeycloakError
from loguru import logger

from kgl_auth.domain.emails import account_name
from kgl_auth.domain.token_text import claims_of
from kgl_auth.problems import ProviderUnavailable
from kgl_auth.stores.keycloak import TIMEOUT, Keycloak
from kgl_servicekit.settings import NotConfigured

T = TypeVar("T")

PAGE = 100
WATCHED = ("LOGOUT", "DELETE_ACCOUNT", "USER_DISABLED_BY_PERMANENT_LOCKOUT")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeycloakUser:
    """A user of the realm; the address in its stored form."""

    id: UUID
    email: str
    name: str
    enabled: bool


@dataclass(frozen=True, slots=True)
class PasswordRefused(Exception):
    """The realm's password policy refuses the password; the sentence says why."""

    sentence: str


@dataclass(frozen=True, slots=True)
class AddressRefused(Exception):
    """The realm takes no account with this address or name; the sentence says why."""

    sentence: str


class AddressTaken(Exception):
    """Somebody else in the realm has this address."""


class KeycloakUsers:
    """What our service account may see and do. Every method raises ProviderUnavailable while Keycloak is out."""

    def __init__(self, keycloak: Keycloak) -> None:
        self._connection = _Connection(keycloak)
        self._admin = KeycloakAdmin(connection=self._connection)

    async def check_rights(self) -> None:
        """Raise NotConfigured when the service account may not do its work."""
        try:
            await self._admin.a_get_users({"first": 0, "max": 1})
            await self._admin.a_get_admin_events({"max": 1})
        except ProviderUnavailable:
            logger.warning("keycloak.rights_unknown")
        except KeycloakError as refused:
            if refused.response_code == httpx.codes.FORBIDDEN:
                raise NotConfigured(
                    "KGL_KEYCLOAK_CLIENT_ID: its service account lacks roles of realm-management; it needs view-users, "
                    "manage-users and view-events"
                ) from refused
            logger.bind(error=str(refused)).warning("keycloak.rights_unknown")

    async def own_id(self) -> str:
        """The id of our service account, by which events tell what we did ourselves."""
        return str(claims_of((await self._connection.fresh_token())["access_token"]).get("sub"))

    async def find(self, user_id: UUID) -> KeycloakUser | None:
        """The user with this id; None when there is none any more."""
        try:
            return _user(await _asked(self._admin.a_get_user(str(user_id))))
        except _Missing:
            return None

    async def find_by_email(self, email: str) -> KeycloakUser | None:
        """The user with this address."""
        found = await _asked(self._admin.a_get_users({"email": email, "exact": "true", "first": 0, "max": 2}))
        return next((user for each in found if (user := _user(each)).email == email), None)

    async def has_session(self, user_id: UUID, session_id: str) -> bool:
        """Whether a login of this user goes on."""
        try:
            sessions = await _asked(self._admin.a_get_sessions(str(user_id)))
        except _Missing:
            return False
        return any(each.get("id") == session_id for each in sessions)

    async def groups(self, user_id: UUID) -> tuple[str, ...]:
        """The groups of a user, by path."""
        try:
            groups = await _asked(self._admin.a_get_user_groups(str(user_id)))
        except _Missing:
            return ()
        return tuple(str(each["path"]) for each in groups)

    async def create(self, email: str, name: str, password: str) -> UUID:
        """Make an account. Raises PasswordRefused, AddressRefused, AddressTaken."""
        first, _, last = name.partition(" ")
        account = {
            "username": email,
            "email": email,
            "firstName": first,
            "lastName": last,
            "enabled": True,
            "credentials": [{"type": "password", "value": password, "temporary": False}],
        }
        return UUID(await _asked(self._admin.a_create_user(account)))

    async def log_out_everywhere(self, user_id: UUID) -> None:
        """End all logins of a user at Keycloak."""
        try:
            await _asked(self._admin.a_user_logout(str(user_id)))
        except _Missing:
            return

    async def admin_events(self, since: datetime) -> list[dict[str, Any]]:
        """What administrators and services changed since then, the oldest first."""
        return await self._events(self._admin.a_get_admin_events, since, {})

    async def user_events(self, since: datetime) -> list[dict[str, Any]]:
        """The logouts and ends of accounts since then, the oldest first."""
        return await self._events(self._admin.a_get_events, since, {"type": list(WATCHED)})

    async def _events(self, get: Any, since: datetime, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        asked = {**query, "dateFrom": int(since.timestamp() * 1000), "direction": "asc", "max": PAGE}
        events: list[dict[str, Any]] = []
        while True:
            page: Sequence[dict[str, Any]] = await _asked(get({**asked, "first": len(events)}))
            events.extend(page)
            if len(page) < PAGE:
                return sorted(events, key=lambda event: int(event["time"]))


class _Missing(Exception):
    """Keycloak answered 404."""


async def _asked(answer: Awaitable[T]) -> T:
    try:
        return await answer
    except KeycloakError as error:
        raise _reading(error) from error


def _reading(error: KeycloakError) -> Exception:
    code, body = error.response_code, (error.response_body or b"").decode(errors="replace")
    if code == httpx.codes.NOT_FOUND:
        return _Missing()
    if code == httpx.codes.CONFLICT:
        return AddressTaken()
    if code == httpx.codes.BAD_REQUEST:
        return PasswordRefused(_description(body)) if "assword" in body else AddressRefused(_description(body))
    logger.bind(status=code, error=type(error).__name__).warning("keycloak.admin_failed")
    return ProviderUnavailable(retry_after=5)


def _description(body: str) -> str:
    try:
        content = httpx.Response(200, text=body).json()
    except ValueError:
        content = {}
    told = content.get("error_description") or content.get("errorMessage") if isinstance(content, dict) else None
    return str(told or "This does not meet the rules of the realm.")


def _user(found: Mapping[str, Any]) -> KeycloakUser:
    email = str(found.get("email") or f"{found['id']}@no-address.invalid")
    name = " ".join(part for part in (found.get("firstName"), found.get("lastName")) if part)
    return KeycloakUser(
        id=UUID(str(found["id"])),
        email=account_name(email),
        name=name or str(found.get("username") or email),
        enabled=bool(found.get("enabled")),
    )


class _Connection(KeycloakOpenIDConnection):
    """python-keycloak's connection over our client, with one token for all its requests."""

    def __init__(self, keycloak: Keycloak) -> None:
        settings = keycloak.settings
        super().__init__(
            server_url=f"{settings.keycloak_url}/",
            realm_name=settings.keycloak_realm,
            client_id=settings.keycloak_client_id,
            client_secret_key=settings.keycloak_secret,
            timeout=TIMEOUT,  # type: ignore[arg-type]
        )
        self.async_s = keycloak.http
        self._keycloak = keycloak
        self._renewing = asyncio.Lock()

    async def fresh_token(self) -> dict[str, Any]:
        """The token of our service account."""
        await self.a__refresh_if_required()
        assert self.token is not None
        return dict(self.token)

    async def a_refresh_token(self) -> None:
        """Get a token; those who wait for one meanwhile get the same."""
        before = self.token
        async with self._renewing:
            if self.token is before:
                self.token = await self._keycloak.own_token()
