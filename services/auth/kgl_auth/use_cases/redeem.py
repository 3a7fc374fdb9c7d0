"""What the token endpoint does: a code or a refresh token becomes a grant and a new refresh token.

A refusal is an answer, not an exception: what it found out (a reuse) has to be committed.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from kgl_auth.db import sessions
from kgl_auth.db.sessions import LoginSession
from kgl_auth.domain.bearer_secrets import new_secret
from kgl_auth.domain.pkce import proves
from kgl_auth.domain.tokens import Grant
from kgl_auth.use_cases.end_session import EndSession, end_session
from kgl_servicekit.database.transaction import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What a client holds after a redemption: the session and its next refresh token."""

    session_id: str
    user_id: UUID
    refresh_token: str
    expires_at: datetime


Keep = Callable[[Transaction, Login], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Redeemed:
    """The grant that tokens are made from, and the refresh token."""

    grant: Grant
    login: Login


@dataclass(frozen=True, slots=True)
class Refused:
    """`invalid_grant`, and why."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RedeemCode:
    """A code and what it must be presented with; the nonce only by who shares the issuer's process.

    `keep` runs in the same transaction as the redemption.
    """

    code: str
    client_id: str
    redirect_uri: str
    verifier: str
    nonce: str | None = None
    idle_seconds: int
    keep: Keep | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RedeemRefreshToken:
    """A refresh token. `grace_seconds` after its first use it is still taken, for requests that were twins."""

    refresh_token: str
    client_id: str
    idle_seconds: int
    grace_seconds: int
    keep: Keep | None = None


async def redeem_code(tx: Transaction, command: RedeemCode) -> Redeemed | Refused:
    """Use a code up, whatever comes of it; a second use ends the session that the first one opened."""
    code = await sessions.use_code(tx, command.code)
    if code is None:
        return Refused("the code is unknown")
    session = await sessions.find_session(tx, code.session_id, lock=True)
    if session is None:
        return Refused("the code is unknown")
    if code.used_at is not None:
        await end_session(tx, EndSession(session_id=session.id, reason="code_reused"))
        return Refused("the code was used before; its session has been ended")
    if tx.now >= code.expires_at:
        return Refused("the code has expired")
    if session.client_id != command.client_id or code.redirect_uri != command.redirect_uri:
        return Refused("the code was given to another client or redirect_uri")
    if not proves(command.verifier, code.code_challenge):
        return Refused("code_verifier is not the one behind code_challenge")
    if command.nonce is not None and code.nonce != command.nonce:
        return Refused("the code answers another request")
    if not session.active(tx.now):
        return Refused("the session has ended")
    redeemed = await _redeem(tx, session, command.idle_seconds, command.keep)
    return Redeemed(replace(redeemed.grant, nonce=code.nonce), redeemed.login)


async def redeem_refresh_token(tx: Transaction, command: RedeemRefreshToken) -> Redeemed | Refused:
    """Rotate a refresh token; one that was used longer ago than the grace ends its session: somebody has a copy."""
    known = await sessions.find_refresh_token(tx, command.refresh_token)
    session = None if known is None else await sessions.find_session(tx, known.session_id, lock=True)
    # a twin may have used it while this one waited for the session's lock
    token = await sessions.find_refresh_token(tx, command.refresh_token)
    if session is None or token is None or session.client_id != command.client_id:
        return Refused("the refresh token is unknown")
    if not session.active(tx.now) or tx.now >= token.expires_at:
        return Refused("the session has ended")
    if token.used_at is not None and tx.now - token.used_at > timedelta(seconds=command.grace_seconds):
        await end_session(tx, EndSession(session_id=session.id, reason="refresh_token_reused"))
        return Refused("the refresh token was used before; its session has been ended")
    await sessions.use_refresh_token(tx, command.refresh_token)
    return await _redeem(tx, session, command.idle_seconds, command.keep)


async def _redeem(tx: Transaction, session: LoginSession, idle_seconds: int, keep: Keep | None) -> Redeemed:
    refresh_token = new_secret()
    expires_at = min(tx.now + timedelta(seconds=idle_seconds), session.expires_at)
    await sessions.add_refresh_token(tx, refresh_token, session.id, expires_at)
    login = Login(
        session_id=session.id, user_id=session.user_id, refresh_token=refresh_token, expires_at=session.expires_at
    )
    if keep is not None:
        await keep(tx, login)
    grant = Grant(
        session_id=session.id,
        user_id=session.user_id,
        email=session.email,
        name=session.name,
        client_id=session.client_id,
        scope=session.scope,
        authenticated_at=session.created_at,
        granted_at=tx.now,
    )
    return Redeemed(grant, login)
