"""The issuer gets a new signing key; the old one verifies until nothing that it signed is left."""

from dataclasses import dataclass, field
from datetime import datetime

from kgl_auth.db import signing_keys
from kgl_auth.domain.key_schedule import KeyTimes, ends, signs_from
from kgl_auth.domain.tokens import SigningKey
from kgl_servicekit.database.transaction import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateKeys:
    """The key to be, and the time; with `due_before`, only if the newest key signs since before that."""

    key: SigningKey = field(repr=False)
    at: datetime
    due_before: datetime | None = None


async def rotate_keys(tx: Transaction, command: RotateKeys) -> KeyTimes:
    """Publish a new key, which signs a quarter of an hour later; the answer is the newest key.

    While the newest one does not sign yet, or is not due, nothing changes: so processes that rotate at once,
    and an operator who asks twice, make one key.
    """
    await signing_keys.lock_keys(tx)
    newest = await signing_keys.find_newest_key(tx)
    if newest is not None and (
        newest.signs_from > command.at or (command.due_before is not None and newest.signs_from > command.due_before)
    ):
        return newest
    begins = signs_from(command.at) if newest is not None else command.at
    await signing_keys.retire_newest_key(tx, ends(begins))
    await signing_keys.add_newest_key(tx, command.key, command.at, begins)
    of_instance = tx.scoped(tx.cause, ())
    await of_instance.audit(
        "signing_key.rotate",
        f"signing_key:{command.key.kid}",
        details={"signs_from": begins.isoformat(), "replaces": newest.kid if newest else None},
    )
    return KeyTimes(kid=command.key.kid, created_at=command.at, signs_from=begins)
