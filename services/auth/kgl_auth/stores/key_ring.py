"""The issuer's keys, as this process knows them."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from joserfc.jwk import RSAKey

from kgl_auth.db.signing_keys import add_first_key, has_active_key, list_signing_keys
from kgl_auth.domain.tokens import ALGORITHM, SigningKey
from kgl_servicekit.database.engine import Database


class KeyRing:
    """Reads the keys from the database and keeps them for `fresh_seconds`; makes the first one when there is none.

    It is a `JwksSource`: what the issuer has signed is verified without a request to itself.
    """

    def __init__(self, database: Database, fresh_seconds: float = 30.0) -> None:
        self._database = database
        self._fresh_seconds = fresh_seconds
        self._keys: dict[str, SigningKey] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def active(self) -> SigningKey:
        """The key that signs."""
        return next(iter((await self._fresh()).values()))

    async def key(self, kid: str) -> RSAKey | None:
        """The public half of the key of this id, None for an unknown one."""
        known = (await self._fresh()).get(kid)
        return known.public if known else None

    async def public(self) -> Mapping[str, RSAKey]:
        """The public halves of all keys that verify, by id, the active one first."""
        return {kid: key.public for kid, key in (await self._fresh()).items()}

    async def jwks(self) -> dict[str, Any]:
        """The public halves as a JWKS document."""
        shown = {"use": "sig", "alg": ALGORITHM}
        return {"keys": [{**key.as_dict(), "kid": kid, **shown} for kid, key in (await self.public()).items()]}

    async def _fresh(self) -> dict[str, SigningKey]:
        async with self._reading:
            if time.monotonic() - self._read_at >= self._fresh_seconds:
                self._keys = await self._read()
                self._read_at = time.monotonic()
            return self._keys

    async def _read(self) -> dict[str, SigningKey]:
        if not await self._database.run((), has_active_key, None):
            await self._database.run((), add_first_key, await asyncio.to_thread(SigningKey.generate))
        stored = await self._database.run((), list_signing_keys, None)
        return {kid: await self._loaded(kid, private_jwk) for kid, private_jwk in stored.items()}

    async def _loaded(self, kid: str, private_jwk: dict[str, Any]) -> SigningKey:
        """The key, the same object as long as it is known, so that what was verified with it stays verified."""
        known = self._keys.get(kid)
        return await asyncio.to_thread(SigningKey.load, private_jwk) if known is None else known
