"""One attempt at a claimed job: under its lease, within its time, to one of five outcomes."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from loguru import logger

from kgl_contracts.operations import StageState
from kgl_servicekit.database.cause import Cause
from kgl_servicekit.database.connection import LOST
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import JobFailed, Unavailable
from kgl_servicekit.ids import uuid7
from kgl_servicekit.jobs import queue
from kgl_servicekit.jobs.job import Job, LeaseLost
from kgl_servicekit.jobs.leases import Lease
from kgl_servicekit.jobs.pool import Pool
from kgl_servicekit.jobs.queue import Claimed, StageRef

Outcome = Literal["done", "failed", "retrying", "unavailable", "lost"]

_BACKOFF, _BACKOFF_LIMIT = 1.0, 300.0


class Attempt:
    """`outside` is what the service gives its handlers; `reporter` names who reports to the receipt."""

    def __init__(self, database: Database, pool: Pool, lease: Lease, outside: Any, reporter: str) -> None:
        self._database = database
        self._pool = pool
        self._lease = lease
        self._outside = outside
        self._reporter = reporter

    @property
    def _claimed(self) -> Claimed:
        return self._lease.claimed

    async def run(self) -> Outcome:
        """Do the job, and record how it went; only a cancellation is raised."""
        try:
            return await self._run()
        except (Unavailable, LeaseLost, *LOST):
            return "lost"  # the lease ends, and the job comes back

    async def _run(self) -> Outcome:
        handler, claimed = self._pool.handler, self._claimed
        try:
            job = Job(self._database, claimed, handler.data.model_validate(claimed.data), self._reporter)
            await self._within_lease(job)
            if not job.finished:
                await job.finish_without_effect()
        except LeaseLost:
            logger.bind(kind=claimed.kind, job=str(claimed.id)).info("job.lease_lost")
            return "lost"
        except JobFailed as failed:
            self._pool.resume()
            if failed.retry:
                return await self._failed_by(failed)
            await self._fail(failed.code, failed.sentence)
            return "failed"
        except Unavailable as out:
            await self._postpone(self._pool.pause(), False, out.code, str(out))
            return "unavailable"
        except Exception as error:
            return await self._failed_by(error)
        self._pool.resume()
        return "done"

    async def _within_lease(self, job: Job[Any]) -> None:
        """Run the handler while its lease is kept; raises LeaseLost, TimeoutError, or what the handler raises.

        Once the job is finished there is no lease to lose; what its handler still does has the rest of its time.
        """
        timeout = self._pool.handler.timeout
        ends = asyncio.get_running_loop().time() + timeout
        work = asyncio.ensure_future(self._pool.handler.handle(job, self._outside))
        try:
            await asyncio.wait({work, self._lease.lost}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if job.finished:
                await asyncio.wait({work}, timeout=max(0.0, ends - asyncio.get_running_loop().time()))
            if work.done():
                await work
            elif job.finished:
                logger.bind(kind=job.claimed.kind, job=str(job.id)).warning("job.stopped_after_its_end")
            elif self._lease.lost.done():
                raise LeaseLost(f"job {job.id} is no longer ours")
            else:
                raise TimeoutError(f"not done within {timeout:g} s")
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _failed_by(self, error: Exception) -> Outcome:
        claimed = self._claimed
        code = "timeout" if isinstance(error, TimeoutError) else "job_error"
        if isinstance(error, JobFailed):
            code = error.code
        sentence = f"{type(error).__name__}: {error}"[:2000]
        logger.bind(kind=claimed.kind, job=str(claimed.id)).opt(exception=error).warning("job.failed")
        if claimed.failures + 1 >= self._pool.handler.attempts:
            await self._fail(code, sentence)
            return "failed"
        ceiling = min(_BACKOFF_LIMIT, _BACKOFF * 2**claimed.failures)
        await self._postpone(random.uniform(0, ceiling), True, code, sentence)  # noqa: S311
        return "retrying"

    async def _fail(self, code: str, sentence: str) -> None:
        async def fail(tx: Transaction, _: None) -> None:
            if await queue.end(tx, self._claimed, "failed", code, sentence):
                await report(tx, self._claimed, "failed", error=code)

        await self._write(fail)

    async def _postpone(self, delay: float, failed: bool, code: str, sentence: str) -> None:
        async def give_back(tx: Transaction, _: None) -> None:
            if await queue.postpone(tx, self._claimed, delay, failed=failed, code=code, error=sentence):
                again = datetime.now(UTC) + timedelta(seconds=delay)
                await report(tx, self._claimed, "retrying", error=code, next_retry_at=again)

        await self._write(give_back)

    async def _write(self, act: Callable[[Transaction, None], Awaitable[None]]) -> None:
        cause = Cause(id=uuid7(), kind="request", actor=f"service:{self._database.service}")
        await self._database.run(self._claimed.workspace_id, act, None, cause=cause, reporter=self._reporter)


async def report(
    tx: Transaction,
    job: StageRef,
    state: StageState,
    *,
    holder: str | None = None,
    error: str | None = None,
    next_retry_at: datetime | None = None,
) -> None:
    """Tell the receipt of a job's operation, if it has a stage there, how it stands."""
    if job.stage is None:
        return
    await tx.report(
        job.stage,
        state,
        operation=job.operation_id,
        workspace=job.workspace_id,
        run=job.run,
        attempt=job.attempt,
        holder=holder,
        error=error,
        next_retry_at=next_retry_at,
    )
