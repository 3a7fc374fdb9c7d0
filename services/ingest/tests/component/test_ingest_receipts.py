"""Receipts whose stages are reported from many places at once."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

import pytest
from prometheus_client import REGISTRY

from kgl_contracts.dead_letters import DeadLetterNoted
from kgl_contracts.envelope import Envelope
from kgl_contracts.event import EventData
from kgl_contracts.operations import (
    OperationEnded,
    OperationStarted,
    PlannedStage,
    Progress,
    ReceiptProgressed,
    StageState,
    Subject,
)
from kgl_contracts.topics import OPERATIONS
from kgl_ingest.consumers.operations import ingest_operations
from kgl_ingest.db.operations import trim
from kgl_ingest.testing import Ingest
from kgl_ingest.trimming import trim_receipts
from kgl_ingest.unfinished import examine_operations, sample_unfinished
from kgl_ingest.use_cases.list_dead_letters import note_letter
from kgl_ingest.use_cases.read_receipt import read_receipt
from kgl_ingest.use_cases.record_progress import RecordProgress, record_progress
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.bus.port import Record
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.subscription import Event
from kgl_servicekit.ids import uuid7
from kgl_servicekit.operations import Stage
from kgl_servicekit.testing.events import running
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.races import overlapping, repeats, until_waiting

D = TypeVar("D")
T = TypeVar("T")

STAGES = ("ingest.parse", "graph.index", "content.draft", "publish.live")


def operation_started(operation: UUID) -> OperationStarted:
    stages = tuple(PlannedStage(name=name) for name in STAGES)
    return OperationStarted(
        operation_id=operation,
        kind="ingest.document",
        subject=Subject(type="document", id=uuid7()),
        stages=stages,
        started_at=datetime.now(UTC),
    )


def started(ingest: Ingest, *operations: UUID) -> RecordProgress:
    return RecordProgress(started=[(ingest.workspace, operation_started(operation)) for operation in operations])


def progress(ingest: Ingest, stage: str, operation: UUID, state: StageState = "done", **more: Any) -> Progress:
    return Progress(
        workspace_id=ingest.workspace,
        operation_id=operation,
        stage=stage,
        state=state,
        **{"at": datetime.now(UTC), **more},
    )


def done(ingest: Ingest, stage: str, *operations: UUID) -> RecordProgress:
    return RecordProgress(moved=[progress(ingest, stage, operation) for operation in operations])


async def state(ingest: Ingest, operation: UUID) -> str | None:
    receipt = await ingest.database.run(ingest.workspace, read_receipt, operation)
    return receipt and receipt.state


async def test_two_last_stages_reported_at_the_same_time_end_the_operation(ingest: Ingest) -> None:
    operation = uuid7()
    await ingest.database.run(ingest.workspace, record_progress, started(ingest, operation))
    *before, first, last = (done(ingest, stage, operation) for stage in STAGES)
    for reported in before:
        await ingest.database.run(ingest.workspace, record_progress, reported)
    beside = ingest.database.run(ingest.workspace, record_progress, last)
    await overlapping(ingest.database, ingest.workspace, record_progress, first, beside)
    assert await state(ingest, operation) == "done"


async def test_whatever_comes_at_the_same_time_as_what_every_operation_ends(ingest: Ingest) -> None:
    dice = random.Random(20261125)
    for _ in range(20):
        operations = [uuid7() for _ in range(3)]
        steps: list[Callable[[], Awaitable[None]]] = [
            *(_run(ingest, record_progress, started(ingest, operation)) for operation in operations),
            *(_run(ingest, record_progress, done(ingest, stage, *_shuffled(dice, operations))) for stage in STAGES),
        ]
        await asyncio.gather(*(step() for step in _shuffled(dice, steps)))
        assert [await state(ingest, operation) for operation in operations] == ["done"] * 3


def _run(
    ingest: Ingest, use_case: Callable[[Transaction, D], Awaitable[None]], data: D
) -> Callable[[], Awaitable[None]]:
    return lambda: ingest.database.run(ingest.workspace, use_case, data)


def _shuffled(dice: random.Random, items: Sequence[T]) -> list[T]:
    return dice.sample(items, len(items))


def envelope_of(ingest: Ingest, event: EventData, sequence: int = 1) -> Envelope:
    return Envelope(
        id=uuid7(),
        type=event.event_type,
        source="graph",
        time=datetime.now(UTC),
        workspace_id=ingest.workspace if isinstance(event, OperationStarted) else None,
        sequence=sequence,
    )


def record(ingest: Ingest, event: EventData, sequence: int) -> Record:
    headers = envelope_of(ingest, event, sequence).headers()
    return Record(topic=OPERATIONS.name, key=event.key, headers=headers, value=event.model_dump_json().encode())


async def test_backlogs_of_two_partitions_that_speak_of_the_same_operations_are_merged_without_a_repeat(
    ingest: Ingest,
) -> None:
    low, middle, high = operations = sorted(uuid7() for _ in range(3))
    await ingest.database.run(ingest.workspace, record_progress, started(ingest, *operations))
    bus, holds, release = MemoryBus(), asyncio.Event(), asyncio.Event()
    await bus.declare([OPERATIONS])
    for reporter, stage, order in (("a", STAGES[0], (high, middle, low)), ("b", STAGES[1], (low, middle, high))):
        for sequence, operation in enumerate(order, 1):
            entries = (progress(ingest, stage, operation), progress(ingest, STAGES[2], operation))
            bus.append(record(ingest, ReceiptProgressed(reporter=reporter, entries=entries), sequence))
    logs = [bus.log(OPERATIONS.name, partition) for partition in range(OPERATIONS.partitions)]
    assert sorted(len(log) for log in logs if log) == [3, 3]

    async def hold(tx: Transaction, operation: UUID) -> None:
        await tx.execute("select from operation_stage where operation_id = $1 for update", operation)
        holds.set()
        await release.wait()

    before = repeats(ingest.database)
    holder = asyncio.create_task(ingest.database.run(ingest.workspace, hold, middle))
    await holds.wait()
    async with running(SubscriptionRunner(ingest.database, bus, ingest_operations).run):
        await until_waiting(ingest.database, 2)
        release.set()
        await holder
        for stage in STAGES[:3]:
            for operation in operations:
                await eventually(lambda operation=operation, stage=stage: _stage_is_done(ingest, operation, stage))
    assert repeats(ingest.database) == before


async def _stage_is_done(ingest: Ingest, operation: UUID, stage: str) -> bool:
    receipt = await ingest.database.run(ingest.workspace, read_receipt, operation)
    return receipt is not None and any(s.name == stage and s.state == "done" for s in receipt.stages)


async def test_a_batch_of_operations_and_reports_takes_four_statements_however_many_they_are(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    operations, statements = [uuid7() for _ in range(50)], list[str]()
    events: list[EventData] = []
    for operation in operations:
        entries = tuple(progress(ingest, stage, operation) for stage in STAGES)
        events += [ReceiptProgressed(reporter="a", entries=entries), operation_started(operation)]
    handler = ingest_operations.handlers[ReceiptProgressed.event_type].handle_batch
    assert handler is not None
    assert handler is ingest_operations.handlers[OperationStarted.event_type].handle_batch
    batch = [Event(event, envelope_of(ingest, event)) for event in events]
    for name in ("execute", "fetch"):
        run = getattr(Transaction, name)

        async def noted(self: Transaction, sql: str, *args: Any, run: Callable[..., Any] = run) -> Any:
            statements.append(sql)
            return await run(self, sql, *args)

        monkeypatch.setattr(Transaction, name, noted)
    verdicts = await ingest.database.run(ingest.workspace, handler, batch)
    assert (len(verdicts), len(statements)) == (100, 4)
    assert {await state(ingest, operation) for operation in operations} == {"done"}


async def test_reports_of_one_stage_in_one_batch_are_one_stage_with_the_times_of_all(ingest: Ingest) -> None:
    operation, stage = uuid7(), STAGES[1]
    begun, ended = datetime(2026, 11, 25, 12, tzinfo=UTC), datetime(2026, 11, 25, 13, tzinfo=UTC)
    reports = [
        progress(ingest, stage, operation, run=2, attempt=2, at=ended),
        progress(ingest, stage, operation, "running", run=2, attempt=2, holder="me", at=begun),
        progress(ingest, stage, operation, "failed", run=1, attempt=5, error="hurts", at=begun),
    ]
    both = RecordProgress(started=started(ingest, operation).started, moved=reports)
    await ingest.database.run(ingest.workspace, record_progress, both)
    receipt = await ingest.database.run(ingest.workspace, read_receipt, operation)
    assert receipt is not None
    (shown,) = [s for s in receipt.stages if s.name == stage]
    assert (shown.state, shown.run, shown.attempt, shown.holder, shown.error) == ("done", 2, 2, None, None)
    assert (shown.started_at, shown.ended_at) == (begun, ended)


async def test_a_later_run_counts_its_own_attempts_however_the_reports_are_batched(ingest: Ingest) -> None:
    stage = STAGES[0]
    for together in (True, False):
        operation = uuid7()
        reports = [
            progress(ingest, stage, operation, "failed", run=1, attempt=5, error="hurts"),
            progress(ingest, stage, operation, "running", run=2, attempt=1),
            progress(ingest, stage, operation, "retrying", run=1, attempt=6),
        ]
        await ingest.database.run(ingest.workspace, record_progress, started(ingest, operation))
        for moved in [reports] if together else [[report] for report in reports]:
            await ingest.database.run(ingest.workspace, record_progress, RecordProgress(moved=moved))
        receipt = await ingest.database.run(ingest.workspace, read_receipt, operation)
        assert receipt is not None
        (shown,) = [s for s in receipt.stages if s.name == stage]
        assert (shown.state, shown.run, shown.attempt) == ("running", 2, 1), together


@pytest.mark.parametrize("late", [False, True])
async def test_a_stage_that_waits_behind_another_event_is_done_whichever_report_comes_first(
    ingest: Ingest, late: bool
) -> None:
    operation, stage = uuid7(), STAGES[1]
    waits = RecordProgress(moved=[progress(ingest, stage, operation, "waiting", error="held_behind")])

    async def shown() -> Stage:
        receipt = await ingest.database.run(ingest.workspace, read_receipt, operation)
        assert receipt is not None
        return next(each for each in receipt.stages if each.name == stage)

    await ingest.database.run(ingest.workspace, record_progress, started(ingest, operation))
    if late:
        await ingest.database.run(ingest.workspace, record_progress, done(ingest, stage, operation))
    await ingest.database.run(ingest.workspace, record_progress, waits)
    if not late:
        assert ((await shown()).state, (await shown()).error) == ("waiting", "held_behind")
        assert (await shown()).started_at is None
        await ingest.database.run(ingest.workspace, record_progress, done(ingest, stage, operation))
    assert ((await shown()).state, (await shown()).error) == ("done", None)


async def test_the_end_of_an_operation_is_told_once_whoever_reports_it(ingest: Ingest) -> None:
    operation = uuid7()
    reports = [done(ingest, stage, operation) for stage in STAGES]
    for command in (started(ingest, operation), *reports[:-2]):
        await ingest.database.run(ingest.workspace, record_progress, command)
    assert await ingest.ends(operation) == []
    beside = ingest.database.run(ingest.workspace, record_progress, reports[-1])
    await overlapping(ingest.database, ingest.workspace, record_progress, reports[-2], beside)
    for command in reports:  # whatever is reported once more
        await ingest.database.run(ingest.workspace, record_progress, command)
    (ended,) = await ingest.ends(operation)
    assert (ended.kind, ended.state, ended.failures, ended.subject.type) == ("ingest.document", "done", (), "document")
    receipt = await ingest.database.run(ingest.workspace, read_receipt, operation)
    assert receipt is not None
    assert (ended.started_at, ended.ended_at) == (receipt.created_at, receipt.ended_at)


async def test_an_operation_that_failed_and_is_tried_again_is_told_of_again_when_it_ends_otherwise(
    ingest: Ingest,
) -> None:
    operation, (first, second, *others) = uuid7(), STAGES

    async def report(stage: str, state: StageState, **more: Any) -> None:
        moved = RecordProgress(moved=[progress(ingest, stage, operation, state, **more)])
        await ingest.database.run(ingest.workspace, record_progress, moved)

    await ingest.database.run(ingest.workspace, record_progress, started(ingest, operation))
    await report(first, "failed", error="no_text")
    await report(second, "failed", error="timeout")
    for stage in others:
        await report(stage, "done")
    (failed,) = await ingest.ends(operation)
    assert (failed.state, [(f.stage, f.error) for f in failed.failures]) == ("failed", [(first, "no_text")])
    await report(second, "running", run=2)
    await report(first, "running", run=2)
    await report(first, "done", run=2)
    assert len(await ingest.ends(operation)) == 1
    await report(second, "cancelled", run=2)
    assert [end.state for end in await ingest.ends(operation)] == ["failed", "cancelled"]


async def test_ends_in_one_batch_go_to_the_workspaces_that_they_are_of(ingest: Ingest) -> None:
    mine, theirs, other = uuid7(), uuid7(), uuid7()
    both = RecordProgress(
        started=[(ingest.workspace, operation_started(mine)), (other, operation_started(theirs))],
        moved=[
            Progress(workspace_id=w, operation_id=o, stage=stage, state="done", at=datetime.now(UTC))
            for w, o in ((ingest.workspace, mine), (other, theirs))
            for stage in STAGES
        ],
    )
    await ingest.database.run([ingest.workspace, other], record_progress, both)

    async def read(tx: Transaction, _: None) -> dict[str, UUID]:
        rows = await tx.fetch("select key, workspace_id from outbox_log where type = $1", OperationEnded.event_type)
        return {row["key"]: row["workspace_id"] for row in rows}

    told = await ingest.database.run((), read, None)
    assert told == {str(mine): ingest.workspace, str(theirs): other}


async def test_receipts_go_some_days_after_their_end_a_few_at_once_but_those_that_may_still_move(
    ingest: Ingest,
) -> None:
    *ended, running_still, with_letter, fresh = operations = [uuid7() for _ in range(8)]
    await ingest.database.run(ingest.workspace, record_progress, started(ingest, *operations))
    for stage in STAGES:
        moved = done(ingest, stage, *ended, with_letter, fresh)
        await ingest.database.run(ingest.workspace, record_progress, moved)
    news = DeadLetterNoted.example().model_dump()
    news |= {"workspace_id": ingest.workspace, "event": {**news["event"], "operation_id": with_letter}}
    await ingest.database.run(ingest.workspace, note_letter, DeadLetterNoted.model_validate(news))

    async def age(tx: Transaction, _: None) -> None:
        sql = """update operation set created_at = now() - interval '91 days', ended_at = ended_at - interval '91 days'
                 where id <> $1"""
        await tx.execute(sql, fresh)

    async def left(tx: Transaction, _: None) -> tuple[set[UUID], set[UUID]]:
        rows = await tx.fetch("select id from operation")
        stages = await tx.fetch("select distinct operation_id as id from operation_stage")
        return {row["id"] for row in rows}, {row["id"] for row in stages}

    await ingest.database.run(ingest.workspace, age, None)
    assert await ingest.database.run((), trim, (90, 3)) == 3
    await trim_receipts(ingest.database, 90, at_once=2)
    kept = {running_still, with_letter, fresh}
    assert await ingest.database.run(ingest.workspace, left, None) == (kept, kept)


async def test_what_does_not_end_is_told_by_its_age_and_by_the_stages_past_their_deadline(ingest: Ingest) -> None:
    def sample(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(name, labels)

    await sample_unfinished(ingest.database)
    assert sample("kgl_oldest_unfinished_age_seconds") == 0
    operation, ended = uuid7(), uuid7()
    await ingest.database.run(ingest.workspace, record_progress, started(ingest, operation, ended))
    for stage in STAGES:
        await ingest.database.run(ingest.workspace, record_progress, done(ingest, stage, ended))
    await ingest.database.run(ingest.workspace, record_progress, done(ingest, STAGES[0], operation))

    async def later(tx: Transaction, _: None) -> None:
        await tx.execute("update operation set created_at = created_at - interval '1 hour'")
        await tx.execute("update operation_stage set deadline_at = now() - interval '1 s' where name <> $1", STAGES[3])

    await ingest.database.run(ingest.workspace, later, None)
    await sample_unfinished(ingest.database)
    assert 3600 <= (sample("kgl_oldest_unfinished_age_seconds") or 0) < 3700
    late = {stage: sample("kgl_overdue_stages", stage=stage) for stage in STAGES}
    assert late == {"ingest.parse": None, "graph.index": 1, "content.draft": 1, "publish.live": None}
    told = await ingest.database.run((), examine_operations, None)
    assert [each.what for each in told] == [
        f"1 operations wait for {stage} past its deadline, such as {operation}"
        for stage in ("content.draft", "graph.index")
    ]
    assert all("GET /operations/v1?state=running" in each.todo for each in told)
    await ingest.database.run(ingest.workspace, record_progress, done(ingest, STAGES[1], operation))
    await sample_unfinished(ingest.database)
    assert sample("kgl_overdue_stages", stage="graph.index") is None

    async def much_later(tx: Transaction, _: None) -> None:
        await tx.execute("update operation set created_at = created_at - interval '8 hours'")

    await ingest.database.run(ingest.workspace, much_later, None)
    told = await ingest.database.run((), examine_operations, None)
    assert told[-1].what == f"an operation has not ended for 9 h; the oldest are {operation}"
