"""Handlers of many events at once: one statement for all, and still order, holds and one culprit at a time."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import asyncpg
from loguru import logger

from kgl_contracts.graph import DocumentIndexed
from kgl_contracts.ingest import DocumentAccepted, DocumentDeleted
from kgl_contracts.topics import DOCUMENTS
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.redrive import Redriver
from kgl_servicekit.events.subscription import DONE, Event, Reject, Subscription, Verdict
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.events import WORKSPACE, consumed_events, held, record, running
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import Roles

_EFFECT = "insert into counter select * from unnest($1::uuid[], $2::text[], $3::int[])"


class Batches:
    """A batch handler that writes all effects in one statement, and emits under each event."""

    def __init__(self, *, reject: int = 0, fail: int = 0) -> None:
        self.sizes: list[int] = []
        self.reject, self.fail = reject, fail
        self.subscription = Subscription("counter.documents", topic=DOCUMENTS, backoff=0.01)
        self.subscription.on_batch(DocumentDeleted)(self.handle)

    async def handle(self, tx: Transaction, events: Sequence[Event[DocumentDeleted]]) -> Sequence[Verdict]:
        self.sizes.append(len(events))
        names = [f"{event.data.document_id}/{event.data.version}" for event in events]
        if any(event.data.version == self.fail for event in events):
            raise RuntimeError("this one hurts")
        taken = [place for place, event in enumerate(events) if event.data.version != self.reject]
        workspaces = [events[place].envelope.workspace_id for place in taken]
        await tx.execute(_EFFECT, workspaces, [names[place] for place in taken], [1] * len(taken))
        for place in taken:
            data = events[place].data
            indexed = DocumentIndexed(document_id=data.document_id, version=data.version, chunk_count=0)
            await tx.under(events[place]).emit(indexed)
        return [Reject("not this one") if event.data.version == self.reject else DONE for event in events]


async def _outbox(database: Database) -> list[tuple[str, int]]:
    async def read(tx: Transaction, _: None) -> list[tuple[str, int]]:
        rows = await tx.fetch("select key, sequence, causation_id from outbox_log order by id")
        assert len({row["causation_id"] for row in rows}) == len(rows)
        return [(row["key"], row["sequence"]) for row in rows]

    return await database.run((), read, None)


async def test_events_that_lie_next_to_each_other_are_handled_in_one_call(database: Database, bus: MemoryBus) -> None:
    handler, document = Batches(), uuid7()
    for sequence in range(1, 21):
        bus.append(record(document, sequence))
    async with running(SubscriptionRunner(database, bus, handler.subscription).run):
        await eventually(lambda: _count(database, 20))
    assert handler.sizes == [20]
    assert await _outbox(database) == [(str(document), sequence) for sequence in range(1, 21)]


async def _count(database: Database, expected: int) -> bool:
    return len(await consumed_events(database)) == expected


async def test_a_refused_event_holds_what_comes_after_it_in_the_same_batch(database: Database, bus: MemoryBus) -> None:
    handler, document, other = Batches(reject=3), uuid7(), uuid7()
    for sequence in range(1, 6):
        bus.append(record(document, sequence))
    bus.append(record(other, 1))
    async with running(SubscriptionRunner(database, bus, handler.subscription).run):
        await eventually(lambda: _count(database, 3))
        await eventually(lambda: _held(database, 3))
        rows = await held(database)
    assert [(row["sequence"], row["state"], row["reason"]) for row in rows] == [
        (3, "dead", "rejected"),
        (4, "waiting", "behind"),
        (5, "waiting", "behind"),
    ]
    assert set(await consumed_events(database)) == {f"{document}/1", f"{document}/2", f"{other}/1"}


async def _held(database: Database, expected: int) -> bool:
    return len(await held(database)) == expected


async def test_one_event_that_raises_is_found_by_halving_and_all_others_have_their_effect(
    database: Database, bus: MemoryBus
) -> None:
    handler, poison = Batches(fail=99), uuid7()
    partition = bus.append(record(poison, 1, version=99)).partition
    same_partition = 0
    while same_partition < 31:
        document = uuid7()
        same_partition += bus.append(record(document, 1)).partition == partition
    runner = SubscriptionRunner(database, bus, handler.subscription)
    async with running(runner.run):
        rows = await eventually(lambda: held(database))
        total = sum(len(bus.log(DOCUMENTS.name, n)) for n in range(DOCUMENTS.partitions))
        await eventually(lambda: _count(database, total - 1))
    assert [(row["key"], row["reason"]) for row in rows] == [(str(poison), "failed")]
    failing_calls = [size for size in handler.sizes if size in {32, 16, 8, 4, 2, 1}]
    assert len(failing_calls) >= 6
    handler.fail = 0
    async with running(Redriver(database, handler.subscription, interval=0.01).run):
        await eventually(lambda: _count(database, total))


async def test_one_event_that_hangs_makes_its_partition_wait_twice_and_not_once_for_each_half(
    database: Database, roles: Roles, bus: MemoryBus
) -> None:
    handler, document, hung = Batches(), uuid7(), list[int]()

    async def hangs(tx: Transaction, events: Sequence[Event[DocumentDeleted]]) -> Sequence[Verdict]:
        if all(event.data.version != 11 for event in events):
            return await handler.handle(tx, events)
        hung.append(len(events))
        operator = await asyncpg.connect(roles.superuser)  # the server ends an idle transaction after 5 s; here at once
        await operator.execute("select pg_terminate_backend($1, 5000)", await tx.fetchval("select pg_backend_pid()"))
        await operator.close()
        await asyncio.Event().wait()
        return []

    subscription = Subscription("counter.documents", topic=DOCUMENTS)
    subscription.on_batch(DocumentDeleted)(hangs)
    for sequence in range(1, 17):
        bus.append(record(document, sequence))
    async with running(SubscriptionRunner(database, bus, subscription).run):
        await eventually(lambda: _held(database, 6))
    assert hung == [16, 1]
    assert await _count(database, 10)
    assert [(row["sequence"], row["reason"]) for row in await held(database)][:2] == [(11, "failed"), (12, "behind")]


async def test_a_handler_that_answers_for_too_few_events_is_an_error_and_nothing_is_lost(
    database: Database, bus: MemoryBus
) -> None:
    subscription, document = Subscription("counter.documents", topic=DOCUMENTS, attempts=1), uuid7()

    @subscription.on_batch(DocumentDeleted)
    async def forgetful(_tx: Transaction, _events: Sequence[Event[DocumentDeleted]]) -> Sequence[Verdict]:
        return []

    bus.append(record(document, 1))
    async with running(SubscriptionRunner(database, bus, subscription).run):
        (row,) = await eventually(lambda: held(database))
    assert row["state"] == "dead"
    assert "gave 0 verdicts for 1" in row["error"]


async def test_a_batch_that_others_go_before_at_every_try_is_settled_in_halves_and_pauses_nobody(
    database: Database, bus: MemoryBus
) -> None:
    handler, document, paused = Batches(), uuid7(), []

    async def collides_in_a_crowd(tx: Transaction, events: Sequence[Event[DocumentDeleted]]) -> Sequence[Verdict]:
        if len(events) > 2:
            await tx.execute("do $$ begin raise exception using errcode = 'deadlock_detected'; end $$")
        return await handler.handle(tx, events)

    subscription = Subscription("counter.documents", topic=DOCUMENTS)
    subscription.on_batch(DocumentDeleted)(collides_in_a_crowd)
    for sequence in range(1, 9):
        bus.append(record(document, sequence))
    sink = logger.add(paused.append, filter=lambda line: line["message"] == "consumer.paused")
    try:
        async with running(SubscriptionRunner(database, bus, subscription).run):
            await eventually(lambda: _count(database, 8))
    finally:
        logger.remove(sink)
    assert handler.sizes == [2, 2, 2, 2]
    assert await held(database) == []
    assert paused == []


async def test_a_handler_of_two_types_takes_them_mixed_with_the_workspaces_that_it_names(
    database: Database, bus: MemoryBus
) -> None:
    subscription, document, calls = Subscription("counter.documents", topic=DOCUMENTS), uuid7(), list[list[str]]()
    other = uuid7()

    @subscription.on_batch(DocumentAccepted, workspaces=lambda _: [other])
    @subscription.on_batch(DocumentDeleted)
    async def together(
        tx: Transaction, events: Sequence[Event[DocumentAccepted | DocumentDeleted]]
    ) -> Sequence[Verdict]:
        assert set(tx.workspaces) == {WORKSPACE, other}
        calls.append([event.envelope.type for event in events])
        return [DONE] * len(events)

    accepted = DocumentAccepted.example().model_copy(update={"document_id": document})
    for sequence in range(1, 6):
        made = record(document, sequence)
        if sequence % 2 == 0:
            made = replace(
                made,
                headers={**made.headers, "ce_type": accepted.event_type},
                value=accepted.model_dump_json().encode(),
            )
        bus.append(made)

    async def called() -> bool:
        return bool(calls)

    async with running(SubscriptionRunner(database, bus, subscription).run):
        await eventually(called)
    mixed = [DocumentDeleted.event_type, DocumentAccepted.event_type]
    assert calls == [[*mixed, *mixed, DocumentDeleted.event_type]]
