"""What an operator decides about dead letters, and what follows from it."""

from uuid import UUID

import pytest

from kgl_contracts.ingest import DocumentDeleted
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Invalid
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.dead_letters import DeadLetter, DeadLetterMissing, NotYetDead, correct, discard, redrive
from kgl_servicekit.events.redrive import Redriver
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.events import Handler, consumed_events, held, held_key_count, record, running
from kgl_servicekit.testing.polling import eventually


async def _dead(database: Database, bus: MemoryBus, handler: Handler, document: UUID) -> DeadLetter:
    """A rejected first event of a key, with another one behind it."""
    handler.reject = {1}
    bus.append(record(document, 1))
    bus.append(record(document, 2))
    async with running(SubscriptionRunner(database, bus, handler.subscription).run):
        await eventually(lambda: _held(database, 2))
    handler.reject = set()
    return DeadLetter(handler.subscription, (await held(database))[0]["id"])


async def _held(database: Database, expected: int) -> bool:
    return len(await held(database)) == expected


async def _audited(database: Database) -> list[str]:
    async def read(tx: Transaction, _: None) -> list[str]:
        rows = await tx.fetch(
            "select convert_from(data, 'UTF8')::jsonb as data from outbox_log where topic = 'kgl.audit'"
        )
        return [row["data"]["action"] for row in rows]

    return await database.run((), read, None)


async def test_a_redrive_tries_again_and_what_waited_behind_follows_in_order(
    database: Database, bus: MemoryBus
) -> None:
    handler, document = Handler(), uuid7()
    letter = await _dead(database, bus, handler, document)
    await database.run((), redrive, letter)
    async with running(Redriver(database, handler.subscription, interval=0.01).run):
        await eventually(lambda: _released(database))
    assert handler.seen == [(document, 1), (document, 2)]
    assert await _audited(database) == ["dead_letter.redrive"]


async def _released(database: Database) -> bool:
    return await held_key_count(database) == 0


async def test_a_discarded_event_has_no_effect_and_lets_the_others_go_on(database: Database, bus: MemoryBus) -> None:
    handler, document = Handler(), uuid7()
    letter = await _dead(database, bus, handler, document)
    await database.run((), discard, (letter, "a test event"))
    async with running(Redriver(database, handler.subscription, interval=0.01).run):
        await eventually(lambda: _released(database))
    assert set(await consumed_events(database)) == {f"{document}/2"}
    assert await _audited(database) == ["dead_letter.discard"]


async def test_a_corrected_event_is_handled_with_its_new_data_and_the_correction_is_kept(
    database: Database, bus: MemoryBus
) -> None:
    handler, document = Handler(), uuid7()
    letter = await _dead(database, bus, handler, document)
    with pytest.raises(Invalid) as refused:
        await database.run((), correct, (letter, b'{"document_id": "no id", "version": 1}'))
    assert [error["pointer"] for error in refused.value.errors] == ["#/document_id"]  # type: ignore[attr-defined]
    value = DocumentDeleted(document_id=document, version=77).model_dump_json().encode()
    await database.run((), correct, (letter, value))
    await database.run((), redrive, letter)
    async with running(Redriver(database, handler.subscription, interval=0.01).run):
        await eventually(lambda: _released(database))
    assert set(await consumed_events(database)) == {f"{document}/77", f"{document}/2"}

    async def kept(tx: Transaction, _: None) -> bytes:
        return bytes(await tx.fetchval("select value from correction"))

    assert await database.run((), kept, None) == value


async def test_a_redriven_gap_goes_on_without_the_missing_events(database: Database, bus: MemoryBus) -> None:
    handler, document = Handler(gap_patience=0.0), uuid7()
    bus.append(record(document, 3))
    bus.append(record(document, 4))
    async with (
        running(SubscriptionRunner(database, bus, handler.subscription).run),
        running(Redriver(database, handler.subscription, interval=0.01).run),
    ):
        first = await eventually(lambda: _first_dead(database))
        letter = DeadLetter(handler.subscription, first)
        await database.run((), redrive, letter)
        await eventually(lambda: _released(database))
        assert handler.seen == [(document, 3), (document, 4)]


async def test_a_discarded_gap_is_settled_with_what_was_missing(database: Database, bus: MemoryBus) -> None:
    handler, document = Handler(gap_patience=0.0), uuid7()
    bus.append(record(document, 3))
    async with (
        running(SubscriptionRunner(database, bus, handler.subscription).run),
        running(Redriver(database, handler.subscription, interval=0.01).run),
    ):
        letter = DeadLetter(handler.subscription, await eventually(lambda: _first_dead(database)))
        await database.run((), discard, (letter, "lost for good"))
        await bus.producer().send([record(document, n) for n in (2, 3, 4)])
        await eventually(lambda: _seen(handler, 1))
    assert handler.seen == [(document, 4)]


async def _seen(handler: Handler, expected: int) -> bool:
    return len(handler.seen) == expected


async def _first_dead(database: Database) -> int:
    rows = await held(database)
    return rows[0]["id"] if rows and rows[0]["state"] == "dead" else 0


async def test_only_the_dead_first_event_of_a_key_can_be_decided(database: Database, bus: MemoryBus) -> None:
    handler, document = Handler(), uuid7()
    letter = await _dead(database, bus, handler, document)
    behind = DeadLetter(handler.subscription, (await held(database))[1]["id"])
    with pytest.raises(NotYetDead):
        await database.run((), redrive, behind)
    with pytest.raises(DeadLetterMissing):
        await database.run((), redrive, DeadLetter(handler.subscription, letter.id + 1000))
    await database.run((), redrive, letter)
    with pytest.raises(NotYetDead):
        await database.run((), redrive, letter)
