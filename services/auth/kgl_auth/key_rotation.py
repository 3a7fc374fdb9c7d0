"""Keys are rotated when they are old enough, and deleted when they are gone, by whichever worker is first."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from loguru import logger

from kgl_auth.db.signing_keys import delete_gone_keys, list_key_times
from kgl_auth.domain.tokens import SigningKey
from kgl_auth.use_cases.rotate_keys import RotateKeys, rotate_keys
from kgl_servicekit.database.engine import Database
from kgl_servicekit.waiting import repeat

_CHECKED_EVERY = 600.0


class KeyRotation:
    """The schedule of the built-in issuer's keys: a new one `every` so often."""

    def __init__(
        self, database: Database, every: timedelta, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._database = database
        self._every = every
        self._now = now

    async def run(self) -> None:
        """Check every 10 minutes, until cancelled."""
        await repeat(self.check, _CHECKED_EVERY, postponed="signing_key.rotation_postponed")

    async def check(self) -> None:
        """Rotate if the newest key is due, and delete those that are gone. The first key is not made here."""
        at = self._now()
        keys = await self._database.run((), list_key_times, None)
        if keys and max(key.signs_from for key in keys) <= at - self._every:
            new = await asyncio.to_thread(SigningKey.generate)  # tens of milliseconds, so not in a transaction
            command = RotateKeys(key=new, at=at, due_before=at - self._every)
            newest = await self._database.run((), rotate_keys, command)
            logger.bind(kid=newest.kid, signs_from=newest.signs_from.isoformat()).info("signing_key.rotated")
        if deleted := await self._database.run((), delete_gone_keys, at):
            logger.bind(keys=deleted).info("signing_key.deleted")
