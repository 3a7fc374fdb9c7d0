"""Gaps in the sequence of a key, when events come twice, fail, or come from a broker that was refilled."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from kgl_contracts.envelope import Envelope, EnvelopeError
from kgl_contracts.ingest import DocumentAccepted, DocumentDeleted
from kgl_contracts.topics import DOCUMENTS
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.redrive import Redriver
from kgl_servicekit.events.subscription import DONE, Event, Reject, Subscription, Verdict
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.counter import count
from kgl_servicekit.testing.events import Handler, consumed_events, held, held_key_count, record, running
from kgl_servicekit.testing.polling import eventually


async def _released(database: Database, effects: int) -> bool:
    return await held_key_count(database) == 0 and len(await consumed_events(database)) == effects


@pytest.mark.parametrize("coming", [(1, 3, 3, 2), (1, 3, 1, 2, 3, 4), (1, 3, 4, 3, 4, 2, 2, 3, 4)])
async def test_events_behind_a_gap_have_one_effect_however_often_they_come(
    database: Database, bus: MemoryBus, coming: tuple[int, ...]
) -> None:
    handler, document = Handler(), uuid7()
    async with (
        running(SubscriptionRunner(database, bus, handler.subscription).run),
        running(Redriver(database, handler.subscription, interval=0.01).run),
    ):
        for sequence in coming:
            await bus.producer().send([record(document, sequence)])
        await eventually(lambda: _released(database, max(coming)))
        await bus.producer().send([record(document, max(coming) + 1)])
        await eventually(lambda: _released(database, max(coming) + 1))
    assert [version for _, version in handler.seen] == list(range(1, max(coming) + 2))
    assert set((await consumed_events(database)).values()) == {1}


async def test_a_gap_that_closes_wakes_the_first_event_behind_it_alone(database: Database, bus: MemoryBus) -> None:
    handler, document = Handler(), uuid7()
    for sequence in (1, 3, 4, 5):
        bus.append(record(document, sequence))
    async with running(SubscriptionRunner(database, bus, handler.subscription).run):
        await eventually(lambda: _held(database, 3))
        await bus.producer().send([record(document, 2)])
        await eventually(lambda: _due(database))
    assert await _due(database) == [3]
    redriver = Redriver(database, handler.subscription)
    for sequence in (3, 4, 5):
        assert await _due(database) == [sequence]
        await redriver.work_off()
    assert await _released(database, 5)


async def _held(database: Database, count: int) -> bool:
    return len(await held(database)) == count


async def _due(database: Database) -> list[int]:
    return [row["sequence"] for row in await held(database) if row["next_at"] <= datetime.now(UTC)]


async def test_an_event_behind_a_gap_that_never_works_is_dead_after_its_attempts(
    database: Database, bus: MemoryBus
) -> None:
    handler, document = Handler(attempts=3), uuid7()
    handler.fail = {2}
    bus.append(record(document, 1))
    async with (
        running(SubscriptionRunner(database, bus, handler.subscription).run),
        running(Redriver(database, handler.subscription, interval=0.01).run),
    ):
        await eventually(lambda: _released(database, 1))
        await bus.producer().send([record(document, 3, version=2)])
        await eventually(lambda: held(database))
        await bus.producer().send([record(document, 2, version=9)])
        row = await eventually(lambda: _dead(database))
    assert (row["attempts"], row["sequence"]) == (3, 3)


async def _dead(database: Database) -> dict[str, object] | None:
    rows = await held(database)
    return dict(rows[0]) if rows and rows[0]["state"] == "dead" else None


async def test_a_refused_event_of_a_new_life_of_the_topic_is_held_beside_that_of_the_old_one(
    database: Database, bus: MemoryBus
) -> None:
    handler, first, second = Handler(), uuid7(), uuid7()
    handler.reject = {1}
    bus.append(record(first, 1))
    async with running(SubscriptionRunner(database, bus, handler.subscription).run):
        await eventually(lambda: held(database))
    bus.forget(DOCUMENTS.name)
    while bus.append(record(second, 1)).partition != (await held(database))[0]["partition"]:
        second = uuid7()
    async with running(SubscriptionRunner(database, bus, handler.subscription).run):
        await eventually(lambda: _key_held(database, str(second)))
    assert str(first) in {row["key"] for row in await held(database)}


async def _key_held(database: Database, key: str) -> bool:
    return key in {row["key"] for row in await held(database)}


async def test_a_log_that_was_restored_to_less_is_read_again_and_nothing_is_skipped(
    database: Database, bus: MemoryBus
) -> None:
    handler, document = Handler(), uuid7()
    acks = [bus.append(record(document, sequence)) for sequence in range(1, 6)]
    async with running(SubscriptionRunner(database, bus, handler.subscription).run):
        await eventually(lambda: _released(database, 5))
    del bus.log(DOCUMENTS.name, acks[0].partition)[2:]
    bus.append(record(document, 5))
    bus.append(record(document, 6))
    async with running(SubscriptionRunner(database, bus, handler.subscription).run):
        await eventually(lambda: _released(database, 6))
        await bus.producer().send([record(document, 7)])
        await eventually(lambda: _released(database, 7))
    assert [version for _, version in handler.seen] == list(range(1, 8))


async def test_a_rejected_batch_holds_the_next_type_of_its_key(database: Database, bus: MemoryBus) -> None:
    subscription, document, seen = Subscription("counter.documents", topic=DOCUMENTS), uuid7(), []

    @subscription.on_batch(DocumentDeleted)
    async def on_deleted(_tx: Transaction, events: list[Event[DocumentDeleted]]) -> list[Verdict]:
        return [Reject("no") for _ in events]

    @subscription.on(DocumentAccepted)
    async def on_accepted(tx: Transaction, event: Event[DocumentAccepted]) -> Verdict:
        seen.append(event.key)
        await count(tx, event.key)
        return DONE

    bus.append(record(document, 1))
    plain = record(document, 2)
    accepted = DocumentAccepted.example().model_copy(update={"document_id": document})
    headers = {**plain.headers, "ce_type": DocumentAccepted.event_type}
    bus.append(replace(plain, headers=headers, value=accepted.model_dump_json().encode()))
    async with running(SubscriptionRunner(database, bus, subscription).run):
        await eventually(lambda: _two_held(database))
    assert seen == []


async def _two_held(database: Database) -> bool:
    return [row["reason"] for row in await held(database)] == ["rejected", "behind"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"ce_sequence": "99999999999999999999"},
        {"ce_sequence": "0"},
        {"ce_sourceepoch": "-1"},
        {"ce_time": "0001-01-01T00:00:00+14:00"},
        {"ce_time": "2026-11-25T12:00:00"},
        {"ce_source": "in\x00gest"},
        {"ce_type": "a\x00b"},
        {"traceparent": "\x00"},
    ],
)
async def test_headers_that_cannot_be_kept_make_a_record_unreadable_and_stop_nobody(
    database: Database, bus: MemoryBus, wrong: dict[str, str]
) -> None:
    handler, document = Handler(), uuid7()
    bad = record(document, 1)
    headers = {**bad.headers, **wrong, "odd\x00name": "x"}
    with pytest.raises(EnvelopeError):
        Envelope.from_headers(headers)
    bus.append(replace(bad, headers=headers, key="k" * 5000))
    bus.append(record(uuid7(), 1))
    async with running(SubscriptionRunner(database, bus, handler.subscription).run):
        (row,) = await eventually(lambda: held(database))
        await eventually(lambda: _effects(database, 1))
    assert (row["reason"], row["state"], len(row["key"])) == ("unreadable", "dead", 129)


async def _effects(database: Database, expected: int) -> bool:
    return len(await consumed_events(database)) == expected
