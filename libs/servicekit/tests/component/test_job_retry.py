"""The failed jobs of an operation are done again when ingest tells their service so."""

from datetime import UTC, datetime
from uuid import UUID

from kgl_contracts.audit import RecordMade
from kgl_contracts.envelope import Envelope
from kgl_contracts.operations import OperationRetried
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import JobFailed
from kgl_servicekit.events.decisions import decision_subscription
from kgl_servicekit.events.subscription import DONE, SUPERSEDED, Event, Verdict
from kgl_servicekit.ids import uuid7
from kgl_servicekit.jobs.runner import Job, JobRunner
from kgl_servicekit.testing.counter import count
from kgl_servicekit.testing.jobs import (
    WORKSPACE,
    Work,
    counted,
    handled_by,
    in_state,
    reports,
    row,
    running,
    select,
    start_job,
)
from kgl_servicekit.testing.polling import eventually


async def told(database: Database, operation: UUID, *services: str, workspace: UUID = WORKSPACE) -> Verdict:
    """What the counter service makes of the decision."""
    data = OperationRetried(operation_id=operation, services=services)
    envelope = Envelope(
        id=uuid7(),
        type=data.event_type,
        source="ingest",
        time=datetime.now(UTC),
        workspace_id=workspace,
        operation_id=operation,
        actor_id="user:somebody",
        sequence=1,
    )
    event = Event(data, envelope)
    handler = decision_subscription("counter", []).handlers[data.event_type].handle
    assert handler is not None

    async def hear(tx: Transaction, _: None) -> Verdict:
        return await handler(tx, event)

    return await database.run(workspace, hear, None, cause=event.cause)


async def test_failed_jobs_of_an_operation_are_done_again_once_as_the_next_run(database: Database) -> None:
    wrong = True

    async def work(job: Job[Work], _: None) -> None:
        if wrong:
            raise JobFailed("bug", "It does not work.")
        await job.finish(count, job.data.name)

    job, other = await start_job(database, "a"), await start_job(database, "b")
    operation = (await row(database, job))["operation_id"]
    async with running(JobRunner(database, handled_by(work), None, worker="w")):
        for each in (job, other):
            await eventually(lambda each=each: in_state(database, each, "failed"))
        wrong = False
        assert await told(database, operation, "graph") == SUPERSEDED
        assert await told(database, operation, "counter", workspace=uuid7()) == SUPERSEDED
        assert await told(database, operation, "graph", "counter") == DONE
        assert await told(database, operation, "counter") == SUPERSEDED
        again = await eventually(lambda: in_state(database, job, "done"))
        assert await told(database, operation, "counter") == SUPERSEDED
    assert (again["run"], again["attempt"], again["failures"]) == (2, 1, 0)
    assert (await row(database, other))["state"] == "failed"
    assert (await counted(database, "a"), await counted(database, "b")) == (1, 0)
    assert [state for state, _ in await reports(database)][-3:] == ["waiting", "running", "done"]
    sql = "select actor, data from outbox_log where type = $1"
    (audited,) = await select(database, sql, RecordMade.event_type)
    record = RecordMade.model_validate_json(audited["data"])
    assert (record.action, record.target, record.actor) == (
        "operation.retry",
        f"operation:{operation}",
        "user:somebody",
    )
    assert record.details == {"service": "counter", "jobs": 1}
