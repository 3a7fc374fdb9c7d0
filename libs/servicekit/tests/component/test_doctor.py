"""Each check of the doctor finds the trouble that is made for it, and a service that is well has no findings."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kgl_contracts.topics import AUDIT, DECISIONS, DOCUMENTS, IDENTITY, OPERATIONS
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.doctor import examine as examination
from kgl_servicekit.doctor.examine import examine
from kgl_servicekit.doctor.finding import Finding, Told, duration
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.lag import Lag
from kgl_servicekit.events.relay import Relay
from kgl_servicekit.ids import uuid7
from kgl_servicekit.jobs.declare import JobData, Jobs
from kgl_servicekit.service import Service
from kgl_servicekit.settings import ServiceSettings
from kgl_servicekit.testing.counter import MIGRATIONS, count_and_tell
from kgl_servicekit.testing.events import WORKSPACE, Handler, held, record, running
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import Roles


def service_of(roles: Roles, bus: MemoryBus, handler: Handler, folder: Path, **settings: Any) -> Service:
    values: dict[str, Any] = {
        "env": "test",
        "database_url": roles.service,
        "bus_url": "postgresql:///none",
        "object_dir": folder,
    }
    return Service(
        name="counter",
        settings=ServiceSettings(**(values | settings)),
        database=Database(roles.service, service="counter"),
        bus=bus,
        migrations=MIGRATIONS,
        subscriptions=[handler.subscription],
    )


@pytest.fixture
async def handler() -> Handler:
    return Handler()


@pytest.fixture
async def service(
    roles: Roles, database: Database, bus: MemoryBus, handler: Handler, tmp_path: Path
) -> AsyncIterator[Service]:
    """One at work, that has heard of auth."""
    await bus.declare([DOCUMENTS, AUDIT, DECISIONS, IDENTITY, OPERATIONS])
    await run(
        database,
        """insert into identity_replica (key_id, type, sequence, state)
           values ('clock', 'identity.clock.ticked.v1', 1, '{}')""",
    )
    relay = Relay(database, bus, worker="a")
    consumer = SubscriptionRunner(database, bus, handler.subscription)
    async with running(relay.run, consumer.run):
        made = service_of(roles, bus, handler, tmp_path)
        await eventually(lambda: _is_well(made))
        yield made


async def _is_well(service: Service) -> bool:
    return await examine(service, patience=0.05) == []


async def run(database: Database, sql: str, *args: Any) -> None:
    async def write(tx: Transaction, _: None) -> None:
        await tx.execute(sql, *args)

    await database.run(WORKSPACE, write, None)


async def findings(service: Service, check: str) -> list[Finding]:
    return [found for found in await examine(service, patience=0.05) if found.check == check]


async def the_one(service: Service, check: str) -> Finding:
    (found,) = await examine(service, patience=0.05)
    assert found.check == check, found
    return found


async def test_all_is_well_with_a_service_at_work(service: Service) -> None:
    assert await examine(service, patience=0.05) == []


async def test_without_a_worker_it_says_so_and_what_stands_still(
    roles: Roles, database: Database, bus: MemoryBus, handler: Handler, tmp_path: Path
) -> None:
    await bus.declare([DOCUMENTS, AUDIT, DECISIONS, IDENTITY, OPERATIONS])
    service = service_of(roles, bus, handler, tmp_path)
    for _ in range(2):
        bus.append(record(uuid7(), 1))
    assert [found.what for found in await findings(service, "workers")] == ["no worker runs"]
    (lag,) = await findings(service, "lag")
    assert lag.what == "counter.documents is 2 events behind and does not move"
    (heard,) = await findings(service, "identity")
    assert "counter has never heard of auth" in heard.what
    await run(database, "insert into identity_replica values ('clock', 't', 1, null, '{}', now() - interval '1 hour')")
    (heard,) = await findings(service, "identity")
    assert "not heard of auth for 60 min" in heard.what


async def test_a_breaker_that_is_open_is_named_with_what_to_do(
    service: Service, database: Database, bus: MemoryBus, handler: Handler
) -> None:
    handler.reject = {7}
    await bus.producer().send([record(uuid7(), 1, version=7) for _ in range(30)])
    await eventually(lambda: _held(database, 20))
    (lag,) = await findings(service, "lag")
    name = "counter.documents"
    assert lag.what == f"{name} is 10 events behind, has refused 20 within 10 min, and stands still for that"
    assert lag.todo.startswith(f"kgl dead-letters list subscription={name}")


async def _held(database: Database, expected: int) -> bool:
    return len(await held(database)) == expected


async def test_a_subscription_that_moves_is_only_told_of_when_it_is_far_behind(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = iter(((0, 1500), (0, 1500), (1, 1499), (2, 5), (3, 4)))

    async def moving(*_: Any) -> list[Any]:
        place, behind = next(at)
        return [Lag("counter.documents", {0: place}, {0: behind})]

    monkeypatch.setattr(examination, "lags", moving)
    (far,) = await examine(service, patience=30.0)
    assert far.what == "counter.documents is 1499 events behind"
    assert await examine(service, patience=30.0) == []


async def test_a_dead_letter_is_told_once_with_what_to_do_and_a_retried_key_after_a_minute(
    service: Service, database: Database, bus: MemoryBus, handler: Handler
) -> None:
    await service.database.start()
    document = uuid7()
    handler.reject = {1}
    bus.append(record(document, 1))
    bus.append(record(document, 2))
    (found,) = await eventually(lambda: findings(service, "dead letters"))
    assert found.what.startswith("1 events of counter.documents are dead letters (rejected), the oldest for ")
    assert "kgl dead-letters list subscription=counter.documents" in found.todo
    await run(database, "update held_key set held_at = now() - interval '2 minutes'")
    assert await findings(service, "held keys") == []  # it waits behind a dead letter
    await run(database, "update held_event set state = 'retrying', error = 'it hurts' where state = 'dead'")
    (held,) = await findings(service, "held keys")
    assert "wait behind 1 keys that fail, the first for 2 min: it hurts" in held.what
    await run(database, "update held_key set held_at = now()")
    assert await findings(service, "held keys") == []
    await service.database.stop()


async def test_events_that_do_not_reach_the_bus_and_those_that_it_refuses(
    roles: Roles, database: Database, bus: MemoryBus, handler: Handler, tmp_path: Path
) -> None:
    await bus.declare([DOCUMENTS, AUDIT, DECISIONS, IDENTITY, OPERATIONS])
    service = service_of(roles, bus, handler, tmp_path)
    await database.run(WORKSPACE, count_and_tell, uuid7())
    assert await findings(service, "outbox") == []
    await run(database, "update outbox_pending set logged_at = now() - interval '1 hour'")
    (pending,) = await findings(service, "outbox")
    assert pending.what == "1 events wait in the outbox, the oldest for 60 min"
    await run(database, "insert into relay_refused (topic, key, id, error) values ('kgl.documents', 'k', 1, 'too big')")
    (refused,) = await findings(service, "refused events")
    assert refused.what.endswith("key k of kgl.documents, and the key waits: too big")
    assert refused.todo.endswith("kgl-counter release kgl.documents k")
    assert await service.release("kgl.documents", "k")
    assert not await service.release("kgl.documents", "k")
    assert await findings(service, "refused events") == []


async def test_a_bus_that_lost_events_wants_a_refill(service: Service, bus: MemoryBus, database: Database) -> None:
    await database.run(WORKSPACE, count_and_tell, uuid7())
    await eventually(lambda: _sent(database))
    bus.forget(DOCUMENTS.name)
    (lost,) = await findings(service, "lost events")
    assert (lost.what, lost.todo) == ("the bus lacks acknowledged events of kgl.documents", "kgl refill")


async def _sent(database: Database) -> bool:
    async def read(tx: Transaction, _: None) -> bool:
        found: int = await tx.fetchval("select count(*) from outbox_pending")
        return found == 0

    return await database.run((), read, None)


_JOB = """
insert into job (id, kind, job_class, workspace_id, data, state, run_at, error_code, ended_at)
values ($1, 'counter.count', 'bulk', $2, '{}', $3, now() - interval '1 hour', $4,
        case when $3 = 'failed' then now() - $5 * interval '1 hour' end)
"""


class Odd(JobData, kind="counter.count"):
    """A job whose data may be odd."""


async def never(_job: Any, _outside: Any) -> None:
    """No job is done here."""


async def test_failed_jobs_of_a_day_and_those_that_wait_for_long(service: Service, database: Database) -> None:
    async def job(state: str, code: str | None, hours: float) -> None:
        await run(database, _JOB, uuid7(), WORKSPACE, state, code, hours)

    await job("failed", "job_error", 25)
    await job("done", None, 0)
    assert await examine(service, patience=0.0) == []
    await job("failed", "job_error", 1)
    assert (await the_one(service, "failed jobs")).what == "1 jobs counter.count failed within a day: job_error"
    await run(database, "update job set error_code = 'too_odd' where state = 'failed'")
    assert (await the_one(service, "failed jobs")).what.endswith("too_odd")
    jobs = Jobs()
    jobs.handles(Odd, verdicts=frozenset({"too_odd"}))(never)
    assert await examine(replace(service, jobs=jobs), patience=0.0) == []
    await run(database, "update job set error_code = 'job_error' where state = 'failed'")
    assert (await the_one(replace(service, jobs=jobs), "failed jobs")).what.endswith("job_error")
    operation = uuid7()
    await run(database, "update job set operation_id = $1 where state = 'failed'", operation)
    found = await the_one(service, "failed jobs")
    assert found.what == f"1 jobs counter.count failed within a day: job_error (of operation {operation})"
    assert "kgl operations retry" in found.todo
    await run(database, "delete from job where state = 'failed'")
    await job("queued", None, 0)
    assert (await the_one(service, "waiting jobs")).what == "1 jobs counter.count wait, the oldest for 60 min"


async def test_migrations_that_are_pending_or_unknown(service: Service, roles: Roles) -> None:
    async def at(revision: str) -> None:
        owner = Database(roles.owner, service="counter")
        await owner.start()
        await run(owner, f"update alembic_version set version_num = '{revision}'")
        await owner.stop()

    await at("0002")
    pending = await the_one(service, "migrations")
    assert (pending.what, pending.todo[:19]) == ("migrations are pending: 0003", "kgl-counter migrate")
    await at("9999")
    assert "does not know: 9999" in (await the_one(service, "migrations")).what


async def test_a_secret_that_anybody_would_guess_and_a_disk_that_is_full(
    service: Service, roles: Roles, bus: MemoryBus, handler: Handler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guessed = service_of(roles, bus, handler, tmp_path / "new", kafka_password="changeme")
    assert "KGL_KAFKA_PASSWORD has no secret" in (await the_one(guessed, "secrets")).what
    monkeypatch.setattr(examination, "_LEAST_FREE", 1.0)
    assert "GiB are free where" in (await the_one(service, "disk")).what


async def test_a_dependency_that_is_out_is_named_and_the_others_are_asked(service: Service, bus: MemoryBus) -> None:
    async def out() -> None:
        raise Unavailable("The object store is away.")

    @asynccontextmanager
    async def broken() -> AsyncIterator[None]:
        if bus.out:
            raise Unavailable("It does not start.")
        yield

    async def own(_tx: Transaction, _: None) -> list[Told]:
        return [Told("this is its own", "look")]

    resources: list[Callable[[], AbstractAsyncContextManager[Any]]] = [broken]
    checks: dict[str, Callable[[], Awaitable[None]]] = {"objects": out}
    made = replace(service, checks=checks, resources=resources, examinations={"own": own})
    bus.out = True
    found = {each.check: each.what for each in await examine(made, patience=0.05)}
    bus.out = False
    assert found == {
        "own": "this is its own",
        "bus": "bus cannot be asked: The bus is out. (nothing is known of lost events and lag)",
        "stores": "stores cannot be asked: It does not start.",
        "objects": "objects cannot be asked: The object store is away.",
    }


async def test_without_a_database_it_says_what_it_could_not_ask(service: Service) -> None:
    away = replace(service, database=Database("postgresql://a:b@127.0.0.1:1/c", service="counter"))
    (found,) = await examine(away)
    assert found.check == "database"
    assert "KGL_DATABASE_URL: its server cannot be reached" in found.what
    assert "nothing is known of workers, outbox, " in found.what


@pytest.mark.parametrize(("seconds", "words"), [(3.2, "3 s"), (600, "10 min"), (10_800, "3 h"), (864_000, "10 days")])
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
