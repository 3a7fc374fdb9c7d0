"""Receipts whose stages are reported from many places at once."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from kgl_contracts.operations import OperationStarted, PlannedStage, Progress, ReceiptProgressed
from kgl_ingest.testing import Ingest
from kgl_ingest.use_cases.read_receipt import read_receipt
from kgl_ingest.use_cases.record_progress import record_operation, record_progress
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.locks import until_waiting

D = TypeVar("D")
T = TypeVar("T")

STAGES = ("ingest.parse", "graph.index", "content.draft", "publish.live")


def started(operation: UUID) -> OperationStarted:
    stages = tuple(PlannedStage(name=name) for name in STAGES)
    return OperationStarted(
        operation_id=operation,
        kind="ingest.document",
        subject=str(uuid7()),
        stages=stages,
        started_at=datetime.now(UTC),
    )


def done(ingest: Ingest, stage: str, *operations: UUID) -> ReceiptProgressed:
    return ReceiptProgressed(
        reporter="test/1",
        entries=tuple(
            Progress(
                workspace_id=ingest.workspace, operation_id=operation, stage=stage, state="done", at=datetime.now(UTC)
            )
            for operation in operations
        ),
    )


async def state(ingest: Ingest, operation: UUID) -> str | None:
    receipt = await ingest.database.run(ingest.workspace, read_receipt, operation)
    return receipt and receipt.state


async def test_two_last_stages_reported_at_the_same_time_end_the_operation(ingest: Ingest) -> None:
    operation, first, last = uuid7(), asyncio.Event(), asyncio.Event()
    await ingest.database.run(ingest.workspace, record_operation, started(operation))
    for stage in STAGES[:-2]:
        await ingest.database.run(ingest.workspace, record_progress, done(ingest, stage, operation))

    async def slow(tx: Transaction, progress: ReceiptProgressed) -> None:
        await record_progress(tx, progress)
        first.set()
        await last.wait()

    one = asyncio.create_task(ingest.database.run(ingest.workspace, slow, done(ingest, STAGES[-2], operation)))
    await first.wait()
    two = asyncio.create_task(
        ingest.database.run(ingest.workspace, record_progress, done(ingest, STAGES[-1], operation))
    )
    await until_waiting(ingest.database)
    last.set()
    await asyncio.gather(one, two)
    assert await state(ingest, operation) == "done"


async def test_whatever_comes_at_the_same_time_as_what_every_operation_ends(ingest: Ingest) -> None:
    dice = random.Random(20261125)
    for _ in range(20):
        operations = [uuid7() for _ in range(3)]
        steps: list[Callable[[], Awaitable[None]]] = [
            *(_run(ingest, record_operation, started(operation)) for operation in operations),
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
