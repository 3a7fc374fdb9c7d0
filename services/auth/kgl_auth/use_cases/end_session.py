"""A login session ends everywhere."""

from dataclasses import dataclass

from kgl_auth.db import sessions
from kgl_contracts.identity import SessionRevoked
from kgl_servicekit.database.transaction import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class EndSession:
    """The `sid`, and why it ends: `logout`, `code_reused` or `refresh_token_reused`."""

    session_id: str
    reason: str = "logout"


async def end_session(tx: Transaction, command: EndSession) -> bool:
    """End the session: its tokens are refused from now on. False when it had ended before."""
    user_id = await sessions.end_session(tx, command.session_id, command.reason)
    if user_id is None:
        return False
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
    return True
