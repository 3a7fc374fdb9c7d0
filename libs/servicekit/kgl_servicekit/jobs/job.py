"""A claimed job, as its handler sees it."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar
from uuid import UUID

from kgl_contracts.operations import StageState
from kgl_servicekit.database.cause import Cause
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import SUPERSEDED
from kgl_servicekit.failpoints import failpoint
from kgl_servicekit.jobs import queue
from kgl_servicekit.jobs.declare import JobData
from kgl_servicekit.jobs.queue import Claimed

D = TypeVar("D", bound=JobData)
C = TypeVar("C")
R = TypeVar("R")


class LeaseLost(Exception):
    """The job was given to another worker, or cancelled; nothing of this attempt may become true."""


class Job(Generic[D]):
    """A job with its data, and the two ways for its handler to write."""

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
            run=self.claimed.run,
        )

    async def run(self, use_case: Callable[[Transaction, C], Awaitable[R]], command: C) -> R:
        """A transaction of its own before the end: what the job has to know, or to mark, for its work."""
        return await self._database.run(self.workspace_id, use_case, command, cause=self.cause)

    async def finish(
        self, use_case: Callable[[Transaction, C], Awaitable[R]], command: C, *, state: StageState = "done"
    ) -> R:
        """Commit the effect, its events and the end of the job together; raises LeaseLost.

        The stage ends as `state`, or as superseded when the use case answers SUPERSEDED.
        """

        async def finishing(tx: Transaction, command: C) -> R:
            if not await queue.end(tx, self.claimed, "done"):
                raise LeaseLost(f"job {self.id} is no longer ours")
            result = await use_case(tx, command)
            if self.claimed.stage is not None:
                ended: StageState = "superseded" if result is SUPERSEDED else state
                await tx.report(
                    self.claimed.stage, ended, run=self.claimed.run, attempt=self.claimed.attempt, holder=None
                )
            return result

        failpoint("job.done")
        result = await self._database.run(
            self.workspace_id, finishing, command, cause=self.cause, reporter=self._reporter
        )
        self.finished = True
        failpoint("job.finished")
        return result

    async def finish_without_effect(self, state: StageState = "done") -> None:
        """End a job whose whole effect is outside of the database, or that has none any more."""
        await self.finish(_nothing, None, state=state)


async def _nothing(_tx: Transaction, _command: None) -> None:
    """The effect of a job that has none in its database."""
