"""Doing jobs: claim, keep the lease, run with a time limit, end in one transaction."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

from loguru import logger

from kgl_contracts.operations import StageState
from kgl_servicekit.database.cause import Cause
from kgl_servicekit.database.connection import LOST
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.signals import JOBS
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import JobFailed, Unavailable
from kgl_servicekit.ids import uuid7
from kgl_servicekit.jobs import queue
from kgl_servicekit.jobs.declare import JobData, JobHandler, Jobs
from kgl_servicekit.jobs.queue import Claimed, StageRef
from kgl_servicekit.metrics import JOB_SECONDS, JOBS_ENDED
from kgl_servicekit.waiting import wait_until_set

D = TypeVar("D", bound=JobData)
C = TypeVar("C")
R = TypeVar("R")

DEATHS = 10
_BACKOFF, _BACKOFF_LIMIT = 1.0, 300.0
_UNAVAILABLE_DELAY = 2.0


class LeaseLost(Exception):
    """The job was given to another worker, or cancelled; nothing of this attempt may become true."""


class Job(Generic[D]):
    """A claimed job, as its handler sees it."""

    def __init__(self, database: Database, claimed: Claimed, data: D, reporter: str) -> None:
        self._database = database
        self._reporter = reporter
        self.claimed = claimed
        self.data = data
        self.finished = False

    @property
    def id(self) -> UUID:
        return self.claimed.id

    @property
    def workspace_id(self) -> UUID:
        return self.claimed.workspace_id

    @property
    def operation_id(self) -> UUID | None:
        return self.claimed.operation_id

    @property
    def cause(self) -> Cause:
        return Cause(
            id=self.claimed.id,
            kind="job",
            actor=self.claimed.actor or f"service:{self._database.service}",
            operation_id=self.claimed.operation_id,
            traceparent=self.claimed.traceparent,
        )

    async def run(self, use_case: Callable[[Transaction, C], Awaitable[R]], command: C) -> R:
        """A transaction of its own before the end: what the job has to know, or to mark, for its work."""
        return await self._database.run(self.workspace_id, use_case, command, cause=self.cause)

    async def finish(
        self, use_case: Callable[[Transaction, C], Awaitable[R]], command: C, *, state: StageState = "done"
    ) -> R:
        """Commit the effect, its events and the end of the job together; raises LeaseLost."""

        async def finishing(tx: Transaction, command: C) -> R:
            if not await queue.end(tx, self.claimed, "done"):
                raise LeaseLost(f"job {self.id} is no longer ours")
            result = await use_case(tx, command)
            if self.claimed.stage is not None:
                await tx.report(
                    self.claimed.stage, state, run=self.claimed.run, attempt=self.claimed.attempt, holder=None
                )
            return result

        result = await self._database.run(
            self.workspace_id, finishing, command, cause=self.cause, reporter=self._reporter
        )
        self.finished = True
        return result


async def _nothing(_tx: Transaction, _command: None) -> None:
    """The effect of a job that has none in its database."""


class JobRunner:
    """Does the jobs of a service in this process, as many at a time as each kind allows."""

    def __init__(self, database: Database, jobs: Jobs, outside: Any, *, worker: str, idle: float = 1.0) -> None:
        self._database = database
        self._jobs = jobs
        self._outside = outside
        self._worker = worker
        self._idle = idle
        self._slots = {kind: list(range(handler.concurrency)) for kind, handler in jobs.handlers.items()}
        self._paused_until: dict[str, float] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._next_reap = 0.0

    async def run(self) -> None:
        """Work until cancelled; jobs that run then are cancelled, and given back by their lease."""
        woken = self._database.signals.subscribe(JOBS)
        try:
            await self._patiently(self._return_lost, self._worker)
            while True:
                woken.clear()
                claimed = await self._patiently(self._claim_all)
                if not claimed:
                    await wait_until_set(woken, self._idle)
                if time.monotonic() >= self._next_reap:
                    await self._patiently(self._return_lost, "")
        finally:
            self._database.signals.unsubscribe(JOBS, woken)
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
            with contextlib.suppress(Unavailable):
                await self._database.run((), queue.give_back, self._worker)

    async def work_off(self) -> None:
        """Do all jobs that are ready now, and those that they lead to; for tests and single runs."""
        while await self._claim_all():
            await asyncio.gather(*self._running)

    async def _patiently(self, act: Callable[..., Awaitable[int]], *args: object) -> int:
        try:
            return await act(*args)
        except Unavailable as out:
            logger.bind(service=self._database.service, error=str(out)).warning("jobs.paused")
            await asyncio.sleep(1.0)
            return 0

    async def _return_lost(self, predecessor: str) -> int:
        """Queue again what a lost worker held; by its name, at the start, what our predecessor held."""
        self._next_reap = time.monotonic() + 5.0

        async def give_back(tx: Transaction, name: str) -> int:
            rows = await queue.return_lost(tx, list(self._jobs.handlers), name, DEATHS)
            for job, failed in rows:
                await _report(tx, job, "failed" if failed else "retrying", "worker_lost")
            return len(rows)

        reporter = f"{self._database.service}/reaper/{self._worker}"
        return await self._database.run((), give_back, predecessor, reporter=reporter)

    async def _claim_all(self) -> int:
        total = 0
        for kind, handler in self._jobs.handlers.items():
            free = self._slots[kind]
            if not free or self._paused_until.get(kind, 0) > time.monotonic():
                continue
            claimed = await self._claim(handler, len(free))
            for job in claimed:
                task = asyncio.create_task(self._do(handler, job, free.pop()))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
            total += len(claimed)
        return total

    async def _claim(self, handler: JobHandler, limit: int) -> list[Claimed]:
        async def take(tx: Transaction, limit: int) -> list[Claimed]:
            claimed = await queue.claim(tx, handler.data.kind, limit, self._worker, handler.lease)
            for job in claimed:
                if job.stage is not None:
                    await tx.report(
                        job.stage,
                        "running",
                        operation=job.operation_id,
                        workspace=job.workspace_id,
                        run=job.run,
                        attempt=job.attempt,
                        holder=self._worker,
                    )
            return claimed

        reporter = f"{self._database.service}/{handler.data.kind}/{self._worker}"
        return await self._database.run((), take, limit, reporter=reporter)

    async def _do(self, handler: JobHandler, claimed: Claimed, slot: int) -> None:
        reporter = f"{self._database.service}/{claimed.kind}/{self._worker}/{slot}"
        try:
            with JOB_SECONDS.labels(claimed.kind).time():
                outcome = await self._attempt(handler, claimed, reporter)
            JOBS_ENDED.labels(claimed.kind, outcome).inc()
        except (Unavailable, LeaseLost, *LOST):
            JOBS_ENDED.labels(claimed.kind, "lost").inc()  # the lease ends, and the job comes back
        finally:
            self._slots[claimed.kind].append(slot)
            self._database.signals.notify_here(JOBS)

    async def _attempt(self, handler: JobHandler, claimed: Claimed, reporter: str) -> str:
        try:
            job = Job(self._database, claimed, handler.data.model_validate(claimed.data), reporter)
            await self._with_lease(handler, job)
            if not job.finished:
                await job.finish(_nothing, None)
            return "done"
        except LeaseLost:
            logger.bind(kind=claimed.kind, job=str(claimed.id)).info("job.lease_lost")
            return "lost"
        except JobFailed as failed:
            await self._fail(claimed, reporter, failed.code, failed.sentence)
            return "failed"
        except Unavailable as out:
            self._paused_until[claimed.kind] = time.monotonic() + _UNAVAILABLE_DELAY
            await self._postpone(claimed, reporter, _UNAVAILABLE_DELAY, False, out.code, str(out))
            return "unavailable"
        except Exception as error:
            code = "timeout" if isinstance(error, TimeoutError) else "job_error"
            sentence = f"{type(error).__name__}: {error}"[:2000]
            logger.bind(kind=claimed.kind, job=str(claimed.id)).opt(exception=error).warning("job.failed")
            if claimed.failures + 1 >= handler.attempts:
                await self._fail(claimed, reporter, code, sentence)
                return "failed"
            ceiling = min(_BACKOFF_LIMIT, _BACKOFF * 2**claimed.failures)
            await self._postpone(claimed, reporter, random.uniform(0, ceiling), True, code, sentence)  # noqa: S311
            return "retrying"

    async def _with_lease(self, handler: JobHandler, job: Job[Any]) -> None:
        """Run the handler while its lease is kept; raises LeaseLost, TimeoutError, or what the handler raises."""
        work = asyncio.ensure_future(handler.handle(job, self._outside))
        keep = asyncio.create_task(self._keep_lease(handler, job.claimed))
        try:
            async with asyncio.timeout(handler.timeout):
                await asyncio.wait({work, keep}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise LeaseLost(f"job {job.id} is no longer ours")
            await work
        finally:
            for task in (work, keep):
                task.cancel()
            await asyncio.gather(work, keep, return_exceptions=True)

    async def _keep_lease(self, handler: JobHandler, claimed: Claimed) -> None:
        """Return when the lease is lost."""
        until = time.monotonic() + handler.lease
        while True:
            await asyncio.sleep(handler.lease / 3)

            async def extend(tx: Transaction, job: Claimed) -> bool:
                return await queue.extend(tx, job, handler.lease)

            try:
                if not await self._database.run(claimed.workspace_id, extend, claimed):
                    return
                until = time.monotonic() + handler.lease
            except Unavailable:
                if time.monotonic() > until:
                    return

    async def _fail(self, claimed: Claimed, reporter: str, code: str, sentence: str) -> None:
        async def fail(tx: Transaction, _: None) -> None:
            if await queue.end(tx, claimed, "failed", code, sentence):
                await _report(tx, claimed, "failed", code)

        await self._run(claimed, fail, reporter)

    async def _postpone(
        self, claimed: Claimed, reporter: str, delay: float, failed: bool, code: str, sentence: str
    ) -> None:
        async def give_back(tx: Transaction, _: None) -> None:
            if await queue.postpone(tx, claimed, delay, failed=failed, code=code, error=sentence):
                await _report(tx, claimed, "retrying", code, delay)

        await self._run(claimed, give_back, reporter)

    async def _run(self, claimed: Claimed, act: Callable[[Transaction, None], Awaitable[None]], reporter: str) -> None:
        cause = Cause(id=uuid7(), kind="request", actor=f"service:{self._database.service}")
        await self._database.run(claimed.workspace_id, act, None, cause=cause, reporter=reporter)


async def _report(tx: Transaction, job: StageRef, state: StageState, code: str, delay: float | None = None) -> None:
    if job.stage is None:
        return
    await tx.report(
        job.stage,
        state,
        operation=job.operation_id,
        workspace=job.workspace_id,
        run=job.run,
        attempt=job.attempt,
        error=code,
        next_retry_at=None if delay is None else datetime.now(UTC) + timedelta(seconds=delay),
    )
