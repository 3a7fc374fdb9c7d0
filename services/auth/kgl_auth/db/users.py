"""Statements about accounts."""

from dataclasses import dataclass
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


async def replace_hash(tx: Transaction, user_id: UUID, password_hash: str) -> None:
    """Keep the same password under newer hashing parameters."""
    await tx.execute("update user_account set password_hash = $2 where id = $1", user_id, password_hash)


def _user(row: asyncpg.Record) -> User:
    return User(id=row["id"], email=row["email"], name=row["name"], created_at=row["created_at"])
