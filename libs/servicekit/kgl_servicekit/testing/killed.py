"""A worker that is killed again and again: at a named place, at random, or by an event that it handles.

`python -m kgl_servicekit.testing.killed '<KilledPlan as JSON>'` forks workers of the counter service one after
the other until so many have died; each works on what the one before has left.
"""

import asyncio
import gc
import os
import random
import signal
import sys
import time
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from kgl_contracts.graph import DocumentIndexed
from kgl_contracts.ingest import DocumentDeleted
from kgl_contracts.topics import AUDIT, DOCUMENTS, GRAPH, OPERATIONS
from kgl_servicekit.bus.postgres import PostgresBus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.redrive import Redriver
from kgl_servicekit.events.relay import Relay
from kgl_servicekit.events.subscription import DONE, Event, Subscription, Verdict
from kgl_servicekit.failpoints import DIED, arm, failpoint
from kgl_servicekit.jobs.declare import JobData, Jobs
from kgl_servicekit.jobs.runner import Job, JobRunner
from kgl_servicekit.logs import configure_logging
from kgl_servicekit.objects.directory import DirectoryStore
from kgl_servicekit.testing.counter import count

TOPICS = (DOCUMENTS, GRAPH, OPERATIONS, AUDIT)
_LONGEST_LIFE = 20.0


class KilledPlan(BaseModel):
    """What the workers stand on, and how they die: at `failpoint`, by SIGKILL at random, or at `killer`."""

    model_config = ConfigDict(frozen=True)

    database_url: str
    bus_url: str
    objects: Path
    deaths: int
    seconds: float = 120
    failpoint: str | None = None
    chance: float = 0.3
    at_random: float | None = None
    killer: UUID | None = None
    hurts: float = 0.05


class CountJob(JobData, kind="counter.count"):
    """Outside work for one event."""

    name: str


class Work:
    """The loops of one worker: relay, two subscriptions, redrivers, jobs."""

    def __init__(self, plan: KilledPlan) -> None:
        self._plan = plan
        self.database = Database(plan.database_url, service="counter")
        self.bus = PostgresBus(plan.bus_url, worker="killed")
        self.objects = DirectoryStore(plan.objects)
        self.documents = Subscription("counter.documents", topic=DOCUMENTS, batch=50, backoff=0.01, reject_share=1.0)
        self.documents.on(DocumentDeleted)(self._on_deleted)
        self.graph = Subscription("counter.graph", topic=GRAPH, batch=50, backoff=0.01, reject_share=1.0)
        self.graph.on(DocumentIndexed)(self._on_indexed)
        self.jobs = Jobs()
        self.jobs.handles(CountJob, attempts=1000, lease=2.0)(self._count)

    async def run(self) -> None:
        """Work until cancelled."""
        await self.database.start()
        await self.bus.start()
        await self.objects.start()
        try:
            await self.bus.declare(TOPICS)
            async with asyncio.TaskGroup() as group:
                group.create_task(Relay(self.database, self.bus, worker="killed").run())
                for subscription in (self.documents, self.graph):
                    group.create_task(SubscriptionRunner(self.database, self.bus, subscription).run())
                    group.create_task(Redriver(self.database, subscription, interval=0.05).run())
                group.create_task(JobRunner(self.database, self.jobs, self.objects, worker="killed", idle=0.1).run())
        finally:
            await self.bus.stop()
            await self.database.stop()

    async def _on_deleted(self, tx: Transaction, event: Event[DocumentDeleted]) -> Verdict:
        data = event.data
        if data.document_id == self._plan.killer and data.version == 1:
            os._exit(DIED)
        if random.random() < self._plan.hurts:  # noqa: S311
            raise RuntimeError("this hurts now and then")
        name = f"{data.document_id}/{data.version}"
        await count(tx, f"first {name}")
        if await count(tx, f"order {data.document_id}") != data.version:
            await count(tx, f"disorder {name}")
        await tx.emit(DocumentIndexed(document_id=data.document_id, version=data.version, chunk_count=0))
        await tx.start_job(CountJob(name=name), key=name)
        return DONE

    async def _on_indexed(self, tx: Transaction, event: Event[DocumentIndexed]) -> Verdict:
        name = f"{event.data.document_id}/{event.data.version}"
        await count(tx, f"next {name}")
        if await count(tx, f"next order {event.data.document_id}") != event.data.version:
            await count(tx, f"disorder next {name}")
        return DONE

    async def _count(self, job: Job[CountJob], objects: DirectoryStore) -> None:
        await objects.put(f"objects/{job.data.name.replace('/', '-')}", job.data.name.encode())
        failpoint("object.written")

        async def counted(tx: Transaction, name: str) -> None:
            await count(tx, f"job {name}")

        await job.finish(counted, job.data.name)


def _worker(plan: KilledPlan) -> None:
    """One life; never returns."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    configure_logging("ERROR", "killed")
    if plan.failpoint is not None:
        arm(plan.failpoint, plan.chance)
    signal.alarm(int(_LONGEST_LIFE))  # a worker that nothing kills ends by itself
    asyncio.run(Work(plan).run())
    os._exit(0)


def main() -> int:
    """Fork workers until enough have died; prints how many did, and how many ended by themselves."""
    plan = KilledPlan.model_validate_json(sys.argv[1])
    until, died, ended, child = time.monotonic() + plan.seconds, 0, 0, 0

    def stop(*_: object) -> None:
        if child:
            os.kill(child, signal.SIGKILL)
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    gc.freeze()
    while died < plan.deaths and time.monotonic() < until:
        child = os.fork()
        if child == 0:
            _worker(plan)
        if plan.at_random is not None:
            time.sleep(random.uniform(0.05, plan.at_random))  # noqa: S311
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code in {DIED, -signal.SIGKILL}:
            died += 1
        else:
            ended += 1
            if ended > 5:
                break
    print(f"{died} {ended}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
