"""Statements about the issuer's key pairs."""

from datetime import datetime
from typing import Any

from kgl_auth.domain.key_schedule import KeyTimes
from kgl_auth.domain.tokens import SigningKey
from kgl_servicekit.database.statements import rows_of
from kgl_servicekit.database.transaction import Transaction

_TIMES = "kid, created_at, signs_from, expires_at"


async def list_signing_keys(tx: Transaction, at: datetime) -> dict[str, dict[str, Any]]:
    """The private halves of all keys that verify at this time, by id."""
    rows = await tx.fetch(
        "select kid, private_jwk from signing_key where expires_at is null or expires_at > $1 order by signs_from", at
    )
    return {row["kid"]: row["private_jwk"] for row in rows}


async def list_key_times(tx: Transaction, _: None) -> list[KeyTimes]:
    """The times of all keys that are kept."""
    return [KeyTimes(**row) for row in await tx.fetch(f"select {_TIMES} from signing_key order by signs_from")]


async def has_newest_key(tx: Transaction, _: None) -> bool:
    """Whether any key signs, or will."""
    return bool(await tx.fetchval("select true from signing_key where active"))


async def lock_keys(tx: Transaction) -> None:
    """Let nobody else rotate until the end of the transaction."""
    await tx.execute("select pg_advisory_xact_lock(hashtext('kgl_auth.signing_keys'))")


async def find_newest_key(tx: Transaction) -> KeyTimes | None:
    """The times of the key that was made last."""
    row = await tx.fetchrow(f"select {_TIMES} from signing_key where active")
    return None if row is None else KeyTimes(**row)


async def retire_newest_key(tx: Transaction, expires_at: datetime) -> None:
    """Give the newest key its end; the next one can be added then."""
    await tx.execute("update signing_key set active = false, expires_at = $1 where active", expires_at)


async def add_newest_key(tx: Transaction, key: SigningKey, created_at: datetime, signs_from: datetime) -> None:
    """Add a key as the newest one, unless there is one that was not retired."""
    await tx.execute(
        """insert into signing_key (kid, private_jwk, active, created_at, signs_from) values ($1, $2, true, $3, $4)
           on conflict (active) where active do nothing""",
        key.kid,
        key.private_jwk,
        created_at,
        signs_from,
    )


async def delete_gone_keys(tx: Transaction, at: datetime) -> int:
    """Delete the keys that have ended; what they signed has ended too."""
    tag = await tx.execute("delete from signing_key where expires_at <= $1", at)
    return rows_of(tag)
