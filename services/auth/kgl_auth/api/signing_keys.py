"""The signing keys of the built-in issuer, for the operators of the instance."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from kgl_auth.db.signing_keys import list_key_times
from kgl_auth.domain.identity import Shown
from kgl_auth.domain.key_schedule import KeyState, KeyTimes, published, state_of
from kgl_auth.domain.tokens import SigningKey
from kgl_auth.use_cases.rotate_keys import RotateKeys, rotate_keys
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.http import ApiRouter, Page, Run

router = ApiRouter(prefix="/instance", tags=["signing keys"])


class SigningKeyShown(Shown):
    """A key that verifies: published and not signing yet, signing, or on its way out."""

    kid: str
    state: KeyState
    created_at: datetime
    signs_from: datetime
    expires_at: datetime | None


@router.get("/signing-keys", permission="instance:keys")
async def list_signing_keys(run: Run) -> Page[SigningKeyShown]:
    """The keys in the JWKS, the newest first."""
    at = datetime.now(UTC)
    keys = await run(list_key_times, None)
    return Page(items=tuple(_shown(key, keys, at) for key in published(keys, at)))


@router.post("/signing-keys:rotate", permission="instance:keys")
async def rotate_signing_keys(run: Run) -> SigningKeyShown:
    """Publish a new key now; it signs in 15 minutes, and the old one verifies for another hour.

    While the last rotation is still under way this answers its key, and makes no other one.
    """
    command = RotateKeys(key=await asyncio.to_thread(SigningKey.generate), at=datetime.now(UTC))

    async def rotated(tx: Transaction, command: RotateKeys) -> SigningKeyShown:
        newest = await rotate_keys(tx, command)
        return _shown(newest, await list_key_times(tx, None), command.at)

    return await run(rotated, command)


def _shown(key: KeyTimes, keys: Sequence[KeyTimes], at: datetime) -> SigningKeyShown:
    return SigningKeyShown(
        kid=key.kid,
        state=state_of(key, keys, at),
        created_at=key.created_at,
        signs_from=key.signs_from,
        expires_at=key.expires_at,
    )
