"""Statements about the issuer's key pairs."""

from typing import Any

from kgl_auth.domain.tokens import SigningKey
from kgl_servicekit.database.transaction import Transaction


async def list_signing_keys(tx: Transaction, _: None) -> dict[str, dict[str, Any]]:
    """The private halves of all keys that still verify, by id, the active one first."""
    rows = await tx.fetch(
        """select kid, private_jwk from signing_key where expires_at is null or expires_at > $1
           order by active desc, created_at desc""",
        tx.now,
    )
    return {row["kid"]: row["private_jwk"] for row in rows}


async def has_active_key(tx: Transaction, _: None) -> bool:
    """Whether any key signs."""
    return bool(await tx.fetchval("select true from signing_key where active"))


async def add_first_key(tx: Transaction, key: SigningKey) -> None:
    """Make this key the active one, unless another process was first."""
    await tx.execute(
        """insert into signing_key (kid, private_jwk, active, created_at) values ($1, $2, true, $3)
           on conflict (active) where active do nothing""",
        key.kid,
        key.private_jwk,
        tx.now,
    )
