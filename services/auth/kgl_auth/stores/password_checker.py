"""Passwords are hashed and checked in threads, a few at a time."""

import asyncio
import secrets
from dataclasses import dataclass

from kgl_auth.domain.password_hashing import HashCost, hash_password, is_outdated, is_password

_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class PasswordVerdict:
    """Whether the password is right; `newer_hash` replaces a stored hash of another cost."""

    right: bool
    newer_hash: str | None = None


class PasswordChecker:
    """Hashes and checks. Unknown accounts cost the same time as known ones."""

    def __init__(self, cost: HashCost) -> None:
        self._cost = cost
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._decoy: asyncio.Task[str] | None = None

    async def hash(self, password: str) -> str:
        """The hash to be stored for a password."""
        async with self._at_once:
            return await asyncio.to_thread(hash_password, password, self._cost)

    async def check(self, password: str, password_hash: str | None) -> PasswordVerdict:
        """Check against a stored hash; without one, do the same work against a decoy and say no."""
        if self._decoy is None:
            self._decoy = asyncio.create_task(self.hash(secrets.token_urlsafe()))
        decoy = await asyncio.shield(self._decoy)
        async with self._at_once:
            right = await asyncio.to_thread(is_password, password, password_hash or decoy)
        if password_hash is None or not right:
            return PasswordVerdict(False)
        outdated = is_outdated(password_hash, self._cost)
        return PasswordVerdict(True, await self.hash(password) if outdated else None)
