"""Statements about accounts."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from kgl_auth.domain.identity import User
from kgl_servicekit.database.transaction import Transaction

_COLUMNS = "id, email, name, created_at"


@dataclass(frozen=True, slots=True)
class Account:
    """A user, and the hash that their password is checked against; None where another provider checks it."""

    user: User
    password_hash: str | None


@dataclass(frozen=True, slots=True)
class LockedUser:
    """A user, and the moment before which their tokens are refused, if any."""

    user: User
    revoked_before: datetime | None


async def add_user(tx: Transaction, user: User, password_hash: str | None) -> bool:
    """Add an account; False when the address has one already."""
    added = await tx.fetchval(
        """insert into user_account (id, email, name, password_hash, created_at) values ($1, $2, $3, $4, $5)
           on conflict (email) do nothing returning true""",
        user.id,
        user.email,
        user.name,
        password_hash,
        user.created_at,
    )
    return bool(added)


async def find_account(tx: Transaction, email: str) -> Account | None:
    """The account of an address in its stored form."""
    row = await tx.fetchrow(f"select {_COLUMNS}, password_hash from user_account where email = $1", email)
    return None if row is None else Account(_user(row), row["password_hash"])


async def find_user(tx: Transaction, user_id: UUID) -> User | None:
    """The account with this id."""
    row = await tx.fetchrow(f"select {_COLUMNS} from user_account where id = $1", user_id)
    return None if row is None else _user(row)


async def lock_user(tx: Transaction, user_id: UUID) -> LockedUser | None:
    """The account with this id, which stays as it is until this transaction ends."""
    row = await tx.fetchrow(
        f"select {_COLUMNS}, revoked_before from user_account where id = $1 for no key update", user_id
    )
    return None if row is None else LockedUser(_user(row), row["revoked_before"])


async def update_profile(tx: Transaction, user_id: UUID, email: str, name: str) -> None:
    """Take over what the identity provider says of a user."""
    await tx.execute("update user_account set email = $2, name = $3 where id = $1", user_id, email, name)


async def release_email(tx: Transaction, email: str, user_id: UUID) -> None:
    """Take an address from whoever else has it: at the identity provider it is this user's now."""
    await tx.execute(
        "update user_account set email = id || '@former.invalid' where email = $1 and id <> $2", email, user_id
    )


async def revoke_before(tx: Transaction, user_id: UUID, before: datetime) -> bool:
    """Refuse the user's older tokens from now on; False when that is so already, or there is no such user."""
    revoked = await tx.fetchval(
        """update user_account set revoked_before = $2
           where id = $1 and (revoked_before is null or revoked_before < $2) returning true""",
        user_id,
        before,
    )
    return bool(revoked)


async def replace_hash(tx: Transaction, user_id: UUID, password_hash: str) -> None:
    """Keep the same password under newer hashing parameters."""
    await tx.execute("update user_account set password_hash = $2 where id = $1", user_id, password_hash)


def _user(row: asyncpg.Record) -> User:
    return User(id=row["id"], email=row["email"], name=row["name"], created_at=row["created_at"])
