"""Workers of the core killed at every named place, at random, and by the event that they handle."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

from kgl_servicekit.bus.postgres import PostgresBus, migrate_bus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.failpoints import NAMES
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.counter import MIGRATIONS, count_and_tell
from kgl_servicekit.testing.events import WORKSPACE, held, running
from kgl_servicekit.testing.killed import TOPICS, KilledPlan, Work
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import PostgresForTests

DOCUMENTS, EVENTS = 10, 1000
DEATHS = 20
# what is passed all the time kills seldom, as a worker has to live for longer than it takes to handle an event
CHANCES = {"transaction.before": 0.05, "transaction.flushed": 0.05, "transaction.committed": 0.05, "relay.read": 0.15}


@dataclass
class System:
    """What the workers stand on, and the commands that were accepted meanwhile, by document."""

    database: Database
    plan: KilledPlan
    accepted: Counter[UUID]

    async def killed(self, *, feed: bool = True, **how: object) -> int:
        """Workers are killed as the plan says, while commands come in; the answer is how many died."""
        plan = self.plan.model_copy(update=how)
        command = [sys.executable, "-m", "kgl_servicekit.testing.killed", plan.model_dump_json()]
        workers = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        dying = asyncio.ensure_future(workers.communicate())
        try:
            while not dying.done():
                if feed and sum(self.accepted.values()) < EVENTS:
                    await self.accept()
                await asyncio.wait({dying}, timeout=0.05)
            return int((await dying)[0].split()[0])
        finally:
            if workers.returncode is None:
                workers.terminate()
                await dying

    async def accept(self, *documents: UUID) -> None:
        """One command for each document."""
        for document in documents or tuple(self.accepted):
            await self.database.run(WORKSPACE, count_and_tell, document)
            self.accepted[document] += 1

    async def finish(self) -> Counter[str]:
        """Let a worker that nobody kills do the rest; the answer is how often each effect happened."""
        events = sum(self.accepted.values())
        async with running(Work(self.plan.model_copy(update={"hurts": 0})).run):

            async def through() -> Counter[str]:
                counts = await self.counts()
                done = all(sum(1 for name in counts if name.startswith(kind)) >= events for kind in ("first ", "job "))
                nexts = sum(1 for name in counts if name.startswith("next ") and "/" in name)
                return counts if done and nexts >= events else Counter()

            return await eventually(through, within=200)

    async def counts(self) -> Counter[str]:
        async def read(tx: Transaction, _: None) -> Counter[str]:
            return Counter({row["name"]: row["value"] for row in await tx.fetch("select name, value from counter")})

        return await self.database.run(WORKSPACE, read, None)


@pytest.fixture
async def system(postgres: PostgresForTests, tmp_path: Path) -> AsyncIterator[System]:
    async with standing(postgres, tmp_path) as system:
        yield system


@asynccontextmanager
async def standing(postgres: PostgresForTests, folder: Path) -> AsyncIterator[System]:
    async with postgres.database(MIGRATIONS) as roles, postgres.database() as bus_roles:
        await migrate_bus(bus_roles.owner, bus_roles.service.partition("//")[2].partition("@")[0])
        bus, database = PostgresBus(bus_roles.service), Database(roles.service, service="counter")
        await bus.start()
        await bus.declare(TOPICS)
        await bus.stop()
        await database.start()
        plan = KilledPlan(database_url=roles.service, bus_url=bus_roles.service, objects=folder, deaths=DEATHS)
        yield System(database, plan, Counter({uuid7(): 0 for _ in range(DOCUMENTS)}))
        await database.stop()


def check(system: System, counts: Counter[str]) -> None:
    """Nothing lost, nothing doubled, nothing out of order: at the first effect, the next one, and the job."""
    expected = {f"{document}/{n}" for document, last in system.accepted.items() for n in range(1, last + 1)}
    for kind in ("first ", "job "):
        assert {name.removeprefix(kind) for name in counts if name.startswith(kind)} == expected
    assert {name.removeprefix("next ") for name in counts if name.startswith("next ") and "/" in name} == expected
    assert {name: n for name, n in counts.items() if "/" in name and n != 1} == {}
    assert [name for name in counts if name.startswith("disorder")] == []


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", NAMES)
async def test_a_worker_that_dies_at_a_named_place_loses_doubles_and_disorders_nothing(
    system: System, name: str
) -> None:
    hurts = 0.3 if name.startswith(("hold.", "redrive.")) else 0.05
    assert await system.killed(failpoint=name, chance=CHANCES.get(name, 0.3), hurts=hurts, seconds=200) >= DEATHS
    check(system, await system.finish())


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_two_hundred_kills_at_random_quarantine_nothing(system: System) -> None:
    assert await system.killed(at_random=0.4, deaths=200, seconds=200) == 200
    check(system, await system.finish())
    assert [row for row in await held(system.database) if row["reason"] == "quarantined"] == []


async def test_an_event_that_kills_its_workers_is_quarantined_and_all_others_have_their_effect(
    system: System,
) -> None:
    killer = uuid7()
    await system.accept()
    await system.accept(killer, killer)
    killed = asyncio.ensure_future(system.killed(feed=False, killer=killer, deaths=30, hurts=0, seconds=90))
    try:
        rows = await eventually(lambda: _quarantined(system), within=80)
    finally:
        killed.cancel()
        await asyncio.gather(killed, return_exceptions=True)
    assert {(row["key"], row["reason"], row["state"]) for row in rows} == {(str(killer), "quarantined", "dead")}
    del system.accepted[killer]
    counts = await system.finish()
    check(system, Counter({name: n for name, n in counts.items() if str(killer) not in name}))


async def _quarantined(system: System) -> list[object]:
    return [row for row in await held(system.database) if row["reason"] == "quarantined"]
