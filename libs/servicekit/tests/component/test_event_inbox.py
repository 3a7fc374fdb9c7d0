"""Topics without sequences: an inbox of ids, a partition for each day."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from kgl_contracts.envelope import Envelope
from kgl_contracts.event import EventData, with_example
from kgl_contracts.topics import Topic
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.bus.port import Record
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.maintenance import INBOX_DAYS, OUTBOX_DAYS, tidy
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.subscription import DONE, Event, Subscription, Verdict
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.counter import count
from kgl_servicekit.testing.events import WORKSPACE, held, running
from kgl_servicekit.testing.polling import eventually

TOPIC = Topic("kgl.in.inboxtest", partitions=1, sequenced=False)


class Given(EventData, type="inboxtest.thing.given.v1", topic=TOPIC, key="name"):
    """Something that a module says."""

    model_config = with_example(name="n")

    name: str


def _subscription() -> Subscription:
    subscription = Subscription("counter.given", topic=TOPIC)

    @subscription.on(Given)
    async def on_given(tx: Transaction, event: Event[Given]) -> Verdict:
        await count(tx, event.data.name)
        return DONE

    return subscription


def _record(name: str, id: UUID | None = None, at: datetime | None = None, workspace: UUID = WORKSPACE) -> Record:
    envelope = Envelope(
        id=id or uuid7(), type=Given.event_type, source="m", time=at or datetime.now(UTC), workspace_id=workspace
    )
    value = Given(name=name).model_dump_json().encode()
    return Record(topic=TOPIC.name, key=name, headers=envelope.headers(), value=value)


async def _counted(database: Database, workspace: UUID = WORKSPACE) -> dict[str, int]:
    async def read(tx: Transaction, _: None) -> dict[str, int]:
        return {row["name"]: row["value"] for row in await tx.fetch("select name, value from counter")}

    return await database.run(workspace, read, None)


async def test_an_id_has_one_effect_in_one_batch_and_over_batches(database: Database, bus: MemoryBus) -> None:
    await bus.declare([TOPIC])
    first, second = uuid7(), uuid7()
    for id in (first, first, second, first):
        bus.append(_record("a", id))
    subscription = _subscription()
    async with running(SubscriptionRunner(database, bus, subscription).run):
        await eventually(lambda: _is(database, {"a": 2}))
        bus.append(_record("a", second))
        bus.append(_record("b"))
        await bus.producer().send([_record("c")])
        await eventually(lambda: _is(database, {"a": 2, "b": 1, "c": 1}))


async def _is(database: Database, expected: dict[str, int]) -> bool:
    return await _counted(database) == expected


async def test_an_id_counts_in_its_workspace_and_for_its_key_alone(database: Database, bus: MemoryBus) -> None:
    await bus.declare([TOPIC])
    id, at, other = uuid7(), datetime.now(UTC), uuid7()
    for name, workspace in (("a", WORKSPACE), ("a", other), ("b", WORKSPACE), ("a", other)):
        bus.append(_record(name, id, at, workspace))
    async with running(SubscriptionRunner(database, bus, _subscription()).run):
        await eventually(lambda: _is(database, {"a": 1, "b": 1}))
    assert await _counted(database, other) == {"a": 1}
    assert await held(database) == []


async def test_what_is_older_than_the_inbox_or_from_the_future_is_held_and_never_executed(
    database: Database, bus: MemoryBus
) -> None:
    await bus.declare([TOPIC])
    now = datetime.now(UTC)
    bus.append(_record("old", at=now - timedelta(days=INBOX_DAYS + 2)))
    bus.append(_record("ahead", at=now + timedelta(days=3)))
    bus.append(_record("edge", at=now - timedelta(days=INBOX_DAYS - 1)))
    async with running(SubscriptionRunner(database, bus, _subscription()).run):
        await eventually(lambda: _is(database, {"edge": 1}))
    assert {(row["key"], row["reason"], row["state"]) for row in await held(database)} == {
        ("old", "too_old", "dead"),
        ("ahead", "too_old", "dead"),
    }


async def test_a_key_or_error_with_a_nul_is_kept_all_the_same(database: Database, bus: MemoryBus) -> None:
    await bus.declare([TOPIC])
    bus.append(replace(_record("k"), key="k\x00", value=b'{"nam\x00e": 1}'))
    async with running(SubscriptionRunner(database, bus, _subscription()).run):
        (row,) = await eventually(lambda: held(database))
    assert (row["key"], row["reason"], row["value"]) == ("k\ufffd", "unreadable", b'{"nam\x00e": 1}')


async def test_tidying_makes_the_coming_days_and_drops_the_oldest(database: Database) -> None:
    async def oldest(tx: Transaction, _: None) -> str:
        return str(
            await tx.fetchval(
                "select min(inhrelid::regclass::text) from pg_inherits where inhparent = 'inbox'::regclass"
            )
        )

    await database.run((), tidy, OUTBOX_DAYS)
    day = datetime.now(UTC).date() - timedelta(days=INBOX_DAYS)
    assert await database.run((), oldest, None) == f"inbox_{day:%Y%m%d}"
