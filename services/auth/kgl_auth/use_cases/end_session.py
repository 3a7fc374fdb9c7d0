"""A login session ends everywhere."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from kgl_auth.db import sessions, users
from kgl_contracts.identity import SessionRevoked
from kgl_servicekit.database.transaction import Transaction

_REMEMBERED = timedelta(days=2)  # longer than any token lives


@dataclass(frozen=True, slots=True, kw_only=True)
class EndSession:
    """The `sid`, and why it ends: `logout`, `code_reused`, `refresh_token_reused`, or what the provider said."""

    session_id: str
    reason: str = "logout"


async def end_session(tx: Transaction, command: EndSession) -> bool:
    """End the session: its tokens are refused from now on. False when it had ended before."""
    user_id = await sessions.end_session(tx, command.session_id, command.reason)
    if user_id is None:
        return False
    await _tell(tx, command, user_id)
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class EndForeignSession:
    """A login that ended at the identity provider, whether it was seen here or not."""

    session_id: str
    user_id: UUID
    client_id: str
    reason: str = "logout"


async def end_foreign_session(tx: Transaction, command: EndForeignSession) -> bool:
    """End the login also where it was never seen; False when it had ended before, or its user is not known here."""
    ending = EndSession(session_id=command.session_id, reason=command.reason)
    if await end_session(tx, ending):
        return True
    if await users.find_user(tx, command.user_id) is None:
        return False
    added = await sessions.add_ended_session(
        tx,
        session_id=command.session_id,
        user_id=command.user_id,
        client_id=command.client_id,
        reason=command.reason,
        expires_at=tx.now + _REMEMBERED,
    )
    if added:
        await _tell(tx, ending, command.user_id)
    return added


async def _tell(tx: Transaction, command: EndSession, user_id: UUID) -> None:
    revoked = SessionRevoked(
        key_id=f"session:{command.session_id}", session_id=command.session_id, user_id=user_id, revoked_at=tx.now
    )
    await tx.emit(revoked, instance=True)
    await tx.audit(
        "session.end",
        f"session:{command.session_id}",
        outcome="allowed" if command.reason == "logout" else "denied",
        details={"reason": command.reason, "user": str(user_id)},
    )
