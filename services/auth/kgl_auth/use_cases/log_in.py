"""A person proves who they are at the built-in issuer, in two transactions with the password check between them."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from kgl_auth.db import attempts, sessions, users
from kgl_auth.db.sessions import Code
from kgl_auth.db.users import Account
from kgl_auth.domain.bearer_secrets import digest, new_secret
from kgl_auth.domain.oidc import AuthorizeRequest
from kgl_servicekit.database.transaction import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginLogin:
    """An attempt: the account's name, where it comes from, and how many failures a minute are allowed."""

    email: str
    address: str
    per_account: int
    per_address: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What the attempt is checked against; `wait` is the seconds to wait, if there were too many."""

    account: Account | None = None
    wait: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefuseLogin:
    """An attempt that failed; without a user when there is no such account."""

    email: str
    address: str
    user_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantLogin:
    """A login that succeeded, and the request that it answers. Lifetimes in seconds."""

    email: str
    address: str
    user_id: UUID
    request: AuthorizeRequest
    session_seconds: int
    code_seconds: int
    newer_hash: str | None = None


async def begin_login(tx: Transaction, command: BeginLogin) -> Attempt:
    """Count the attempt before anything is checked, so that parallel guesses cannot overtake the counter."""
    waits = [
        await attempts.count_attempt(tx, "login", command.email, command.address, limit=command.per_account),
        await attempts.count_attempt(tx, "login", command.address, limit=command.per_address),
    ]
    wait = max((wait for wait in waits if wait is not None), default=None)
    if wait is not None:
        return Attempt(wait=wait)
    return Attempt(account=await users.find_account(tx, command.email))


async def refuse_login(tx: Transaction, command: RefuseLogin) -> None:
    """Record the failure. What was typed as an address may be a password: it is shown as a hash."""
    target = f"user:{command.user_id}" if command.user_id else f"account:{digest(command.email).hex()[:16]}"
    await tx.audit("session.login", target, outcome="denied", details={"address": command.address})


async def grant_login(tx: Transaction, command: GrantLogin) -> str:
    """Open a session and answer the authorization code that the client gets."""
    await attempts.forget_attempts(tx, "login", command.email, command.address)
    if command.newer_hash is not None:
        await users.replace_hash(tx, command.user_id, command.newer_hash)
    session_id, code, request = str(tx.new_id("session")), new_secret(), command.request
    await sessions.add_session(
        tx,
        session_id=session_id,
        user_id=command.user_id,
        client_id=request.client_id,
        scope=request.scope,
        expires_at=tx.now + timedelta(seconds=command.session_seconds),
    )
    row = Code(
        session_id=session_id,
        redirect_uri=request.redirect_uri,
        code_challenge=request.code_challenge,
        nonce=request.nonce,
        expires_at=tx.now + timedelta(seconds=command.code_seconds),
        used_at=None,
    )
    await sessions.add_code(tx, code, row)
    await tx.audit(
        "session.login", f"user:{command.user_id}", details={"session": session_id, "client": request.client_id}
    )
    return code
