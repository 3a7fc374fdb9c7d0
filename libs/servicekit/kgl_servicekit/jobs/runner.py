"""Doing the jobs of a service in this process: claim what is next, run it, give back what is lost."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from loguru import logger

from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.signals import JOBS
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.events.alone import HANDLERS
from kgl_servicekit.failpoints import failpoint
from kgl_servicekit.jobs import line, queue
from kgl_servicekit.jobs.attempt import Attempt, report
from kgl_servicekit.jobs.declare import Jobs
from kgl_servicekit.jobs.job import Job, LeaseLost
from kgl_servicekit.jobs.leases import Leases
from kgl_servicekit.jobs.line import Asked, Depth
from kgl_servicekit.jobs.pool import Pool
from kgl_servicekit.jobs.queue import Claimed
from kgl_servicekit.metrics import JOB_QUEUE_DEPTH, JOB_QUEUE_OLDEST, JOB_SECONDS, JOBS_ENDED
from kgl_servicekit.waiting import wait_until_set

__all__ = ["Job", "JobRunner", "LeaseLost"]

_REAP_EVERY = 5.0
_SAMPLE_EVERY = 15.0


class JobRunner:
    """As many jobs at a time as each kind allows. Several runners, in any processes, share the work."""

    def __init__(self, database: Database, jobs: Jobs, outside: Any, *, worker: str, idle: float = 1.0) -> None:
        self._database = database
        self._outside = outside
        self._worker = worker
        self._idle = idle
        self._pools = {kind: Pool(handler) for kind, handler in jobs.handlers.items()}
        self._leases = Leases(database, min((h.lease for h in jobs.handlers.values()), default=30.0))
        self._running: set[asyncio.Task[None]] = set()
        self._suspects = True
        self._next_reap = 0.0
        self._next_sample = 0.0

    async def run(self) -> None:
        """Work until cancelled; jobs that run then are cancelled and given back."""
        woken = self._database.signals.subscribe(JOBS)
        try:
            async with self._leases.kept():
                await self._patiently(self._return_lost, self._worker)
                while True:
                    woken.clear()
                    claimed = await self._patiently(self._claim)
                    if not claimed:
                        await wait_until_set(woken, self._idle)
                    await self._look_around()
        finally:
            self._database.signals.unsubscribe(JOBS, woken)
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
            with contextlib.suppress(Unavailable):
                await self._database.run((), queue.give_back, self._worker)

    async def work_off(self) -> None:
        """Do all jobs that are ready now, and those that they lead to; for tests and single runs."""
        async with self._leases.kept():
            while await self._claim():
                await asyncio.gather(*self._running)

    async def _patiently(self, act: Callable[..., Awaitable[int]], *args: object) -> int:
        try:
            return await act(*args)
        except Unavailable as out:
            logger.bind(service=self._database.service, error=str(out)).warning("jobs.paused")
            await asyncio.sleep(1.0)
            return 0

    async def _look_around(self) -> None:
        now = time.monotonic()
        if now >= self._next_reap:
            await self._patiently(self._return_lost, "")
        if now >= self._next_sample:
            self._next_sample = now + _SAMPLE_EVERY
            await self._patiently(self._sample)

    async def _return_lost(self, predecessor: str) -> int:
        """Queue again what a lost worker held; by its name, at the start, what our predecessor held."""
        self._next_reap = time.monotonic() + _REAP_EVERY

        async def give_back(tx: Transaction, name: str) -> bool:
            for job, failed in await queue.return_lost(tx, list(self._pools), name):
                await report(tx, job, "failed" if failed else "retrying", error="worker_lost")
            return await line.has_suspect(tx, [kind for kind, pool in self._pools.items() if not pool.paused])

        reporter = f"{self._database.service}/reaper/{self._worker}"
        self._suspects = await self._database.run((), give_back, predecessor, reporter=reporter)
        return int(self._suspects)

    async def _sample(self) -> int:
        async def count(tx: Transaction, kinds: Sequence[str]) -> list[Depth]:
            return await line.depths(tx, kinds)

        found = {(d.kind, d.job_class): d for d in await self._database.run((), count, list(self._pools))}
        for kind in self._pools:
            for job_class in ("interactive", "bulk"):
                depth = found.get((kind, job_class))
                JOB_QUEUE_DEPTH.labels(kind, job_class).set(depth.depth if depth else 0)
                JOB_QUEUE_OLDEST.labels(kind, job_class).set(depth.oldest if depth else 0)
        return len(found)

    async def _claim(self) -> int:
        """Start what is next, as far as slots are free; the answer is how many."""
        if self._suspects:
            alone = await self._claim_suspect()
            if alone or self._suspects:
                return alone
        asked = []
        for pool in self._pools.values():
            pool.more = True  # what comes while there is no room is not heard of again
            if (ask := pool.ask()) is not None:
                asked.append(ask)
        if not asked:
            return 0

        async def take(tx: Transaction, asked: Sequence[Asked]) -> list[Claimed]:
            await line.line_up(tx)
            return await line.claim(tx, self._worker, asked)

        claimed = await self._claimed_by(take, asked)
        taken = Counter(job.kind for job in claimed)
        for ask in asked:
            self._pools[ask.kind].claimed(taken[ask.kind], ask.most)
        return self._start(claimed)

    async def _claim_suspect(self) -> int:
        """A job that has seen several workers end runs alone: what runs ends first, and nothing starts beside it."""
        leases = {kind: ask.lease for kind, pool in self._pools.items() if (ask := pool.ask()) is not None}

        async def take(tx: Transaction, leases: dict[str, float]) -> list[Claimed]:
            return await line.claim_suspect(tx, self._worker, leases)

        if self._running:
            return 0
        claimed = await self._claimed_by(take, leases)
        self._suspects = bool(claimed)
        return self._start(claimed)

    async def _claimed_by(
        self, take: Callable[[Transaction, Any], Awaitable[list[Claimed]]], asked: Any
    ) -> list[Claimed]:
        async def taking(tx: Transaction, asked: Any) -> list[Claimed]:
            claimed = await take(tx, asked)
            for job in claimed:
                await report(tx, job, "running", holder=self._worker)
            return claimed

        reporter = f"{self._database.service}/jobs/{self._worker}"
        claimed = await self._database.run((), taking, asked, reporter=reporter)
        if claimed:
            failpoint("job.claimed")
        return claimed

    def _start(self, claimed: Sequence[Claimed]) -> int:
        for job in claimed:
            pool = self._pools[job.kind]
            task = asyncio.create_task(self._do(pool, job, pool.take()))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return len(claimed)

    async def _do(self, pool: Pool, claimed: Claimed, slot: int) -> None:
        reporter = f"{self._database.service}/{claimed.kind}/{self._worker}/{slot}"
        lease = self._leases.hold(claimed, pool.handler.lease)
        try:
            async with _beside(claimed):
                with JOB_SECONDS.labels(claimed.kind).time():
                    outcome = await Attempt(self._database, pool, lease, self._outside, reporter).run()
            JOBS_ENDED.labels(claimed.kind, outcome).inc()
        finally:
            self._leases.drop(lease)
            pool.release(slot)
            if pool.more or self._suspects:
                self._database.signals.notify_here(JOBS)


def _beside(claimed: Claimed) -> contextlib.AbstractAsyncContextManager[None]:
    """A suspect never runs while an event that may have ended its workers is alone: one would be blamed for the other.

    Other jobs do: an event would have to wait for the longest of them, and all handlers of the process with it.
    """
    return HANDLERS.shared() if claimed.deaths >= queue.SUSPECT else contextlib.nullcontext()
