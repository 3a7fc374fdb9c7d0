"""What the receipt of an operation is told of an event that is not handled at once: why, and when it is tried again."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from kgl_contracts.envelope import Envelope
from kgl_contracts.event import EventData, with_example
from kgl_contracts.operations import Progress, ReceiptProgressed
from kgl_contracts.topics import Topic
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.bus.port import Record
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.maintenance import INBOX_DAYS
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events import redrive
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.redrive import Redriver
from kgl_servicekit.events.subscription import DONE, Event, Subscription, Verdict
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.events import WORKSPACE, Handler, held, record, running
from kgl_servicekit.testing.polling import eventually

MODULE = Topic("kgl.in.stagetest", partitions=1, sequenced=False)


class Given(EventData, type="stagetest.thing.given.v1", topic=MODULE, key="name"):
    """Something that a module says."""

    model_config = with_example(name="n")

    name: str


def under(operation: UUID, plain: Record, **headers: str) -> Record:
    return replace(plain, headers={**plain.headers, "ce_operationid": str(operation), **headers})


async def told(database: Database, operation: UUID) -> list[Progress]:
    async def read(tx: Transaction, _: None) -> Sequence[Progress]:
        rows = await tx.fetch("select data from outbox_log where type = $1 order by id", ReceiptProgressed.event_type)
        return [entry for row in rows for entry in ReceiptProgressed.model_validate_json(row["data"]).entries]

    return [entry for entry in await database.run((), read, None) if entry.operation_id == operation]


async def stages(database: Database, operation: UUID) -> list[tuple[str, str | None, int, int]]:
    return [(each.state, each.error, each.run, each.attempt) for each in await told(database, operation)]


async def consume(database: Database, bus: MemoryBus, subscription: Subscription, holds: int) -> None:
    """Until so many events are held."""
    async with running(SubscriptionRunner(database, bus, subscription).run):
        await eventually(lambda: _held(database, holds))


async def _held(database: Database, expected: int) -> bool:
    return len(await held(database)) == expected


async def again(database: Database, subscription: Subscription, change: str = "") -> None:
    """What is held is due, and tried once."""

    async def due(tx: Transaction, _: None) -> None:
        await tx.execute(f"update held_event set next_at = now() {change}")

    await database.run((), due, None)
    await Redriver(database, subscription).work_off()


async def test_each_try_tells_when_the_next_one_is_and_the_last_that_there_is_none(
    database: Database, bus: MemoryBus
) -> None:
    handler, operation = Handler(attempts=3, backoff=100.0), uuid7()
    handler.fail = {1}
    bus.append(under(operation, record(uuid7(), 1)))
    await consume(database, bus, handler.subscription, 1)
    (first,) = await told(database, operation)
    (row,) = await held(database)
    assert first.next_retry_at is not None
    assert abs(first.next_retry_at - row["next_at"]) < timedelta(seconds=5)
    await again(database, handler.subscription)
    (row,) = await held(database)
    assert (await told(database, operation))[-1].next_retry_at == row["next_at"]
    await again(database, handler.subscription)
    assert (await told(database, operation))[-1].next_retry_at is None
    assert await stages(database, operation) == [
        ("retrying", "handler_failed", 1, 1),
        ("retrying", "handler_failed", 1, 2),
        ("failed", "handler_failed", 1, 3),
    ]


async def test_an_event_whose_last_attempt_ended_its_worker_has_failed(database: Database, bus: MemoryBus) -> None:
    handler, operation = Handler(attempts=3), uuid7()
    handler.fail = {1}
    bus.append(under(operation, record(uuid7(), 1)))
    await consume(database, bus, handler.subscription, 1)
    await again(database, handler.subscription, ", attempts = 3, run = 2")
    assert (await stages(database, operation))[-1] == ("failed", "worker_lost", 2, 3)


async def test_what_is_parked_waits_and_goes_on_when_its_turn_comes(database: Database, bus: MemoryBus) -> None:
    handler, document, first, second = Handler(), uuid7(), uuid7(), uuid7()
    handler.reject = {1}
    bus.append(under(first, record(document, 1)))
    bus.append(under(second, record(document, 2)))
    bus.append(record(document, 3))
    await consume(database, bus, handler.subscription, 3)
    assert await stages(database, first) == [("failed", "rejected", 1, 1)]
    assert await stages(database, second) == [("waiting", "held_behind", 1, 1)]


async def test_a_gap_that_does_not_close_has_failed(database: Database, bus: MemoryBus) -> None:
    handler, document, operation = Handler(gap_patience=0.0), uuid7(), uuid7()
    bus.append(record(document, 1))
    bus.append(under(operation, record(document, 3)))
    await consume(database, bus, handler.subscription, 1)
    await again(database, handler.subscription)
    assert await stages(database, operation) == [("waiting", "gap", 1, 1), ("failed", "gap", 1, 1)]


async def test_a_version_that_no_release_comes_for_has_failed(
    database: Database, bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, operation = Handler(), uuid7()
    bus.append(under(operation, record(uuid7(), 1), ce_type="ingest.document.deleted.v9"))
    await consume(database, bus, handler.subscription, 1)
    await again(database, handler.subscription)
    assert await stages(database, operation) == [("waiting", "unknown_version", 1, 1)]
    monkeypatch.setattr(redrive, "VERSION_LIMIT", 0.0)
    await again(database, handler.subscription)
    assert (await stages(database, operation))[1:] == [("failed", "unknown_version", 1, 1)]


async def test_what_is_older_than_the_inbox_has_failed(database: Database, bus: MemoryBus) -> None:
    await bus.declare([MODULE])
    subscription, operation = Subscription("counter.given", topic=MODULE), uuid7()

    @subscription.on(Given, stage="take")
    async def on_given(_tx: Transaction, _event: Event[Given]) -> Verdict:
        return DONE

    at = datetime.now(UTC) - timedelta(days=INBOX_DAYS + 2)
    envelope = Envelope(id=uuid7(), type=Given.event_type, source="m", time=at, workspace_id=WORKSPACE)
    value = Given(name="a").model_dump_json().encode()
    bus.append(under(operation, Record(topic=MODULE.name, key="a", headers=envelope.headers(), value=value)))
    await consume(database, bus, subscription, 1)
    assert await stages(database, operation) == [("failed", "too_old", 1, 1)]
