"""Keeping the leases of all jobs that this process holds: one statement for all, in time for the shortest."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

from loguru import logger

from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.jobs import queue
from kgl_servicekit.jobs.queue import CANCELLED, Claimed
from kgl_servicekit.waiting import wait_until_set


@dataclass(slots=True, eq=False)
class Lease:
    """One held job; `lost` ends when it is not ours any more."""

    claimed: Claimed
    seconds: float
    until: float
    lost: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def lose(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)


class Leases:
    """The jobs that are held. A cancelled one is noticed at once, any other loss at the next heartbeat."""

    def __init__(self, database: Database, shortest: float) -> None:
        self._database = database
        self._interval = shortest / 3
        self._held: dict[UUID, Lease] = {}

    def hold(self, claimed: Claimed, seconds: float) -> Lease:
        """Keep the lease of a job that was just claimed."""
        lease = Lease(claimed, seconds, time.monotonic() + seconds)
        self._held[claimed.id] = lease
        return lease

    def drop(self, lease: Lease) -> None:
        if self._held.get(lease.claimed.id) is lease:
            del self._held[lease.claimed.id]

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Within this, leases are kept."""
        task = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _keep(self) -> None:
        cancelled = self._database.signals.subscribe(CANCELLED)
        try:
            while True:
                await wait_until_set(cancelled, self._interval)
                cancelled.clear()
                if self._held:
                    await self._beat(list(self._held.values()))
        finally:
            self._database.signals.unsubscribe(CANCELLED, cancelled)

    async def _beat(self, held: list[Lease]) -> None:
        async def extend(tx: Transaction, jobs: list[tuple[Claimed, float]]) -> set[UUID]:
            return await queue.extend(tx, jobs)

        asked = time.monotonic()
        try:
            kept = await self._database.run((), extend, [(lease.claimed, lease.seconds) for lease in held])
        except Exception as error:  # whatever it is: leases that cannot be kept are over when they are over
            logger.bind(error=str(error)).warning("jobs.leases_not_kept")
            for lease in held:
                if time.monotonic() > lease.until:
                    lease.lose()
            return
        for lease in held:
            if lease.claimed.id in kept:
                lease.until = asked + lease.seconds
            else:
                lease.lose()
