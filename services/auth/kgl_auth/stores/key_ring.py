"""The issuer's keys, as this process knows them."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from joserfc.jwk import RSAKey

from kgl_auth.db.signing_keys import add_newest_key, has_newest_key, list_key_times, list_signing_keys
from kgl_auth.domain.key_schedule import KeyTimes, active, published
from kgl_auth.domain.tokens import ALGORITHM, SigningKey
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction

FRESH = timedelta(seconds=30)
_NEVER = datetime.min.replace(tzinfo=UTC)


class KeyRing:
    """Reads the keys from the database and keeps them for 30 seconds; makes the first one when there is none.

    It is a `JwksSource`: what the issuer has signed is verified without a request to itself. Which key signs,
    and which are published, follows from their times and the clock at each call.
    """

    def __init__(self, database: Database, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database = database
        self._now = now
        self._keys: dict[str, SigningKey] = {}
        self._times: list[KeyTimes] = []
        self._read_at = _NEVER
        self._reading = asyncio.Lock()

    async def active(self) -> SigningKey:
        """The key that signs."""
        at = await self._refresh()
        return self._keys[active(self._times, at).kid]

    async def key(self, kid: str) -> RSAKey | None:
        """The public half of the key of this id, None for an unknown one."""
        return (await self.public()).get(kid)

    async def public(self) -> Mapping[str, RSAKey]:
        """The public halves of all keys that verify, by id, the newest first."""
        at = await self._refresh()
        return {key.kid: self._keys[key.kid].public for key in published(self._times, at)}

    async def jwks(self) -> dict[str, Any]:
        """The public halves as a JWKS document."""
        shown = {"use": "sig", "alg": ALGORITHM}
        return {"keys": [{**key.as_dict(), "kid": kid, **shown} for kid, key in (await self.public()).items()]}

    async def _refresh(self) -> datetime:
        """Read the keys again if it is time, or if none is left; the time that it is."""
        async with self._reading:
            at = self._now()
            if abs(at - self._read_at) >= FRESH or not published(self._times, at):
                await self._read(at)
                self._read_at = at
            return at

    async def _read(self, at: datetime) -> None:
        if not await self._database.run((), has_newest_key, None):
            first = await asyncio.to_thread(SigningKey.generate)
            await self._database.run((), _add_first_key, (first, at))
        stored, times = await self._database.run((), _read_all, at)
        self._keys = {kid: await self._loaded(kid, private_jwk) for kid, private_jwk in stored.items()}
        self._times = [key for key in times if key.kid in stored]

    async def _loaded(self, kid: str, private_jwk: dict[str, Any]) -> SigningKey:
        """The key, the same object as long as it is known, so that what was verified with it stays verified."""
        known = self._keys.get(kid)
        return await asyncio.to_thread(SigningKey.load, private_jwk) if known is None else known


async def _add_first_key(tx: Transaction, first: tuple[SigningKey, datetime]) -> None:
    key, at = first
    await add_newest_key(tx, key, at, at)


async def _read_all(tx: Transaction, at: datetime) -> tuple[dict[str, dict[str, Any]], list[KeyTimes]]:
    return await list_signing_keys(tx, at), await list_key_times(tx, None)
