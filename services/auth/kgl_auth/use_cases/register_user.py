"""A person makes an account, and gets a workspace of their own with it."""

from dataclasses import dataclass
from uuid import UUID

from kgl_auth.db import attempts, users
from kgl_auth.domain.identity import Shown, User, Workspace
from kgl_auth.problems import EmailTaken
from kgl_auth.use_cases.open_workspace import open_personal_workspace
from kgl_servicekit.database.transaction import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterUser:
    """The account to be; the address in its stored form, the password as a hash, if it is kept here."""

    user_id: UUID
    email: str
    name: str
    password_hash: str | None


class Registered(Shown):
    """A new account and its personal workspace."""

    user: User
    workspace: Workspace


async def count_registration(tx: Transaction, attempt: tuple[str, int]) -> float | None:
    """Count a registration from an address; the seconds to wait when there were more than the limit in a minute."""
    address, limit = attempt
    return await attempts.count_attempt(tx, "register", address, limit=limit)


async def register_user(tx: Transaction, command: RegisterUser) -> Registered:
    """Make the account and the workspace. Raises EmailTaken (409)."""
    user = User(id=command.user_id, email=command.email, name=command.name, created_at=tx.now)
    if not await users.add_user(tx, user, command.password_hash):
        raise EmailTaken()
    await tx.audit("user.register", f"user:{user.id}")
    return Registered(user=user, workspace=await open_personal_workspace(tx, user))
