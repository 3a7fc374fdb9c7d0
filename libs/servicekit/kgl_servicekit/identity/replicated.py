"""Checking a credential in a service that is not auth: the replica first, auth itself when that cannot tell."""

import asyncio
import hmac
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
from loguru import logger

from kgl_servicekit.database.signals import IDENTITY_CHANGED
from kgl_servicekit.errors import Problem, Unavailable
from kgl_servicekit.identity.auth_client import AuthClient
from kgl_servicekit.identity.checked import Checked, WorkspaceChoice
from kgl_servicekit.identity.credential import AccessToken, ApiKey, fingerprint, parse_authorization
from kgl_servicekit.identity.issuer import marks_of, trust_of
from kgl_servicekit.identity.jwks import http_jwks
from kgl_servicekit.identity.permissions import INSTANCE_WORKSPACE
from kgl_servicekit.identity.problems import (
    KeyInvalid,
    SessionEnded,
    WorkspaceDenied,
    WorkspaceMismatch,
)
from kgl_servicekit.identity.replica import DatabaseReplica, Replica, Runs, Snapshot
from kgl_servicekit.identity.short_cache import ShortCache
from kgl_servicekit.identity.tokens import Claims, TokenVerifier
from kgl_servicekit.settings import ServiceSettings

FRESH_SECONDS = 5.0
READABLE_SECONDS = 300.0
STALE_KEPT_SECONDS = 1.0
AUTH_KEPT_SECONDS = 0.5
_MOST_KEPT = 20_000

Row = Mapping[str, Any]


class _Unknown(Exception):
    """The replica has no row of something that may well exist."""


@dataclass(frozen=True, slots=True)
class _Local:
    """What the replica says, or whom it refuses, and how old it is (seconds)."""

    checked: Checked
    age: float
    refusal: type[Problem] | None = None

    def outcome(self) -> Checked:
        if self.refusal is not None:
            raise self.refusal
        return self.checked


class ReplicatedAuthority:
    """Answers from the replica while it is fresh (5 s) and knows all that the question is about.

    Else auth is asked; if it cannot be, reads go on until the replica is 5 minutes old, and everything else
    gets 503. What can never become right again (a wrong secret, a revoked key or session) is refused at once.

    An answer is kept until the replica that it was made from would be 5 s old, and all are dropped when
    `changed` is set, which is on each identity event that this service applies, in whatever process: a lost
    signal costs no more than those 5 s.
    """

    def __init__(self, replica: Replica, tokens: TokenVerifier, auth: AuthClient, changed: asyncio.Event) -> None:
        self._replica = replica
        self._tokens = tokens
        self._auth = auth
        self._changed = changed
        self._kept: ShortCache[Checked] = ShortCache("access", _MOST_KEPT)

    @property
    def session_cookie(self) -> str | None:
        return None

    async def check(self, authorization: str, workspace_hint: str | None, *, reading: bool) -> Checked:
        """See `Authority.check`."""
        if self._changed.is_set():
            self._changed.clear()
            self._kept.clear()
            self._auth.forget()
        kept_as = fingerprint(f"{'r' if reading else 'w'} {authorization}", workspace_hint)

        async def make() -> tuple[Checked, float]:
            checked, seconds = await self._check(authorization, workspace_hint, reading=reading)
            return checked, min(seconds, _seconds_left(checked))

        return await self._kept.get(kept_as, make)

    async def workspaces(self, user_id: UUID) -> Sequence[WorkspaceChoice]:
        return await self._replica.workspaces(user_id)

    async def close(self) -> None:
        """Close the connections to auth."""
        await self._auth.close()

    async def _check(self, authorization: str, hint: str | None, *, reading: bool) -> tuple[Checked, float]:
        """The answer, and for how long it may be kept."""
        credential = parse_authorization(authorization)
        local: _Local | None = None
        try:
            local = await self._from_replica(credential, hint)
        except _Unknown:
            logger.bind(reading=reading).debug("identity.unknown_here")
        if local is not None and local.age <= FRESH_SECONDS:
            return local.outcome(), FRESH_SECONDS - local.age
        try:
            return await self._auth.check(authorization, hint), AUTH_KEPT_SECONDS
        except Unavailable:
            if reading and local is not None and local.age <= READABLE_SECONDS:
                return local.outcome(), STALE_KEPT_SECONDS
            raise

    async def _from_replica(self, credential: ApiKey | AccessToken, hint: str | None) -> _Local:
        if isinstance(credential, ApiKey):
            return await self._of_key(credential, hint)
        return await self._of_user(await self._tokens.verify(credential), hint)

    async def _of_user(self, claims: Claims, hint: str | None) -> _Local:
        user = claims.user_id
        session, everywhere = f"session:{claims.session_id}", f"user:{user}"
        instance = f"membership:{INSTANCE_WORKSPACE}:{user}"
        keys = [session, everywhere, instance, *_keys_of_hint(hint)]
        if (named := _as_id(hint)) is not None:
            keys.append(f"membership:{named}:{user}")
        found = await self._replica.read(keys)
        if session in found.rows or _is_revoked(found.rows.get(everywhere), claims):
            raise SessionEnded
        workspace = _workspace(found, hint)
        if workspace is not None and named is None:
            more = await self._replica.read([f"membership:{workspace}:{user}"])
            found = Snapshot({**found.rows, **more.rows}, max(found.age, more.age))
        permissions, refusal = _permissions(found.rows.get(instance)), None
        if workspace is not None:
            member = _known(found, f"membership:{workspace}:{user}")
            permissions |= _permissions(member)
            if _is_over(member) or _is_over(_known(found, f"workspace:{workspace}")):
                refusal = WorkspaceDenied
        checked = Checked(
            principal=f"user:{user}",
            user_id=user,
            workspace_id=workspace,
            permissions=permissions,
            expires_at=datetime.fromtimestamp(claims.expires_at, UTC),
        )
        return _Local(checked, found.age, refusal)

    async def _of_key(self, credential: ApiKey, hint: str | None) -> _Local:
        name = f"key:{credential.id}"
        found = await self._replica.read([name, *_keys_of_hint(hint)])
        row = _known(found, name)
        if not _is_valid(row, credential):
            raise KeyInvalid
        workspace, named = UUID(row["workspace_id"]), _workspace(found, hint)
        if workspace == INSTANCE_WORKSPACE and named is not None:
            workspace = named  # a module of the whole installation works in any workspace that it names
        if named is not None and named != workspace:
            raise WorkspaceMismatch
        is_over = workspace != INSTANCE_WORKSPACE and _is_over(_known(found, f"workspace:{workspace}"))
        checked = Checked(
            principal=f"key:{credential.id}",
            workspace_id=workspace,
            permissions=frozenset(row["permissions"]),
            module=row["module"],
            expires_at=_expiry(row),
        )
        return _Local(checked, found.age, KeyInvalid if is_over else None)


def _is_valid(row: Row, credential: ApiKey) -> bool:
    """Whether the key is the one that was replicated, and still good. Says nothing by the time that it takes."""
    same = hmac.compare_digest(str(row.get("secret_sha256", "")), credential.secret_sha256)
    expires_at = _expiry(row)
    expired = expires_at is not None and expires_at <= datetime.now(UTC)
    return same and not expired and not row["revoked"]


def _expiry(row: Row) -> datetime | None:
    text = row.get("expires_at")
    return datetime.fromisoformat(text) if text else None


def _keys_of_hint(hint: str | None) -> list[str]:
    if hint is None:
        return []
    return [f"workspace:{hint}"] if _as_id(hint) is not None else [f"slug:{hint}"]


def _workspace(found: Snapshot, hint: str | None) -> UUID | None:
    """The workspace that is named; raises _Unknown for a slug that the replica does not know."""
    if hint is None:
        return None
    return _as_id(hint) or UUID(_known(found, f"slug:{hint}")["workspace_id"])


def _known(found: Snapshot, key: str) -> Row:
    row = found.rows.get(key)
    if row is None:
        raise _Unknown
    return row


def _is_over(row: Row) -> bool:
    return bool(row.get("deleted")) or "unreadable" in row


def _is_revoked(user: Row | None, claims: Claims) -> bool:
    """Whether the token is older than the moment at which its user was put out of everything."""
    if user is None:
        return False
    return "unreadable" in user or claims.issued_at < datetime.fromisoformat(user["before"]).timestamp()


def _permissions(row: Row | None) -> frozenset[str]:
    return frozenset() if row is None or _is_over(row) else frozenset(row["permissions"])


def _as_id(hint: str | None) -> UUID | None:
    try:
        return UUID(hint) if hint is not None and len(hint) == 36 else None
    except ValueError:
        return None


def _seconds_left(checked: Checked) -> float:
    return float("inf") if checked.expires_at is None else checked.expires_at.timestamp() - time.time()


def replicated_authority(database: Runs, settings: ServiceSettings) -> ReplicatedAuthority:
    """The authority of a service whose replica is in its database. Nothing is connected yet."""
    client = httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=20))
    issuer = client if settings.keycloak_ca is None else httpx.AsyncClient(trust_env=False, verify=trust_of(settings))
    tokens = TokenVerifier(http_jwks(issuer, settings.keys_url), settings.issuer_url, marks=marks_of(settings))
    auth = AuthClient(client, settings.check_url)
    return ReplicatedAuthority(DatabaseReplica(database), tokens, auth, database.signals.subscribe(IDENTITY_CHANGED))
