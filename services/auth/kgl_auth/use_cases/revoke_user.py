"""The identity provider has put a user out: disabled, deleted, or logged out of everything."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kgl_auth.db import sessions, users
from kgl_auth.use_cases.end_session import EndSession, end_session
from kgl_contracts.identity import UserRevoked
from kgl_servicekit.database.transaction import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeUser:
    """Whose tokens are refused that were issued before a moment, and why."""

    user_id: UUID
    before: datetime
    reason: str


async def revoke_user(tx: Transaction, command: RevokeUser) -> bool:
    """End all logins of a user that are known here, and refuse the tokens of those that are not.

    False when that was done before, or nobody knows the user here: then there is nothing that they could reach.
    """
    if not await users.revoke_before(tx, command.user_id, command.before):
        return False
    for session_id in await sessions.list_live_sessions(tx, command.user_id):
        await end_session(tx, EndSession(session_id=session_id, reason=command.reason))
    revoked = UserRevoked(key_id=f"user:{command.user_id}", user_id=command.user_id, before=command.before)
    await tx.emit(revoked, instance=True)
    await tx.audit("user.revoke", f"user:{command.user_id}", outcome="denied", details={"reason": command.reason})
    return True
