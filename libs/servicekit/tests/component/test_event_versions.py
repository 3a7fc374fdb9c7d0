"""Releases that know different versions of an event, side by side on one topic."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from kgl_contracts.envelope import Envelope
from kgl_contracts.event import EventData, with_example
from kgl_contracts.topics import DOCUMENTS
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.bus.port import Record
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events import handling, redrive
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.redrive import Redriver
from kgl_servicekit.events.subscription import DONE, Event, Subscription, Verdict
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.events import WORKSPACE, held, held_key_count, running
from kgl_servicekit.testing.polling import eventually

_ID = "0198f3a0-0000-7000-8000-000000000001"


class NotedV1(EventData, type="test.document.noted.v1", topic=DOCUMENTS, key="document_id"):
    """A note, as one text."""

    model_config = with_example(document_id=_ID, text="a b")
    document_id: UUID
    text: str


class Noted(EventData, type="test.document.noted.v2", topic=DOCUMENTS, key="document_id", replaces=NotedV1):
    """A note, in words."""

    model_config = with_example(document_id=_ID, words=["a", "b"])
    document_id: UUID
    words: tuple[str, ...]

    @classmethod
    def upcast(cls, earlier: NotedV1) -> "Noted":
        return cls(document_id=earlier.document_id, words=tuple(earlier.text.split()))


class Release:
    """One release of a service: it knows the versions up to `model`, and keeps what it was given."""

    def __init__(self, service: str, model: type[EventData], *, batch: bool = False) -> None:
        self.seen: list[Any] = []
        self.subscription = Subscription(f"{service}.documents", topic=DOCUMENTS, attempts=2, backoff=0.01)
        if batch:
            self.subscription.on_batch(model)(self._all)
        else:
            self.subscription.on(model)(self._one)

    async def _one(self, _tx: Transaction, event: Event[Any]) -> Verdict:
        self.seen.append(event.data)
        return DONE

    async def _all(self, _tx: Transaction, events: Sequence[Event[Any]]) -> Sequence[Verdict]:
        self.seen += [event.data for event in events]
        return [DONE for _ in events]


def _record(data: EventData, sequence: int, event_type: str | None = None) -> Record:
    envelope = Envelope(
        id=uuid7(),
        type=event_type or data.event_type,
        source="test",
        time=datetime.now(UTC),
        workspace_id=WORKSPACE,
        sequence=sequence,
    )
    return Record(topic=DOCUMENTS.name, key=data.key, headers=envelope.headers(), value=data.model_dump_json().encode())


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read yet is looked at again at once."""
    monkeypatch.setattr(handling, "VERSION_PATIENCE", 0.0)
    monkeypatch.setattr(redrive, "VERSION_PATIENCE", 0.0)


@pytest.mark.parametrize("batch", [False, True])
async def test_producers_and_consumers_of_both_versions_work_side_by_side(
    database: Database, bus: MemoryBus, batch: bool
) -> None:
    document, other = uuid7(), uuid7()
    for record in (
        _record(NotedV1(document_id=document, text="one"), 1),
        _record(Noted(document_id=document, words=("two", "words")), 2),
        _record(NotedV1(document_id=document, text="three"), 3),
        _record(NotedV1(document_id=other, text="another key"), 1),
    ):
        bus.append(record)
    old, new = Release("old", NotedV1, batch=batch), Release("new", Noted, batch=batch)
    redriver = Redriver(database, old.subscription, interval=0.01)
    async with (
        running(SubscriptionRunner(database, bus, old.subscription).run),
        running(SubscriptionRunner(database, bus, new.subscription).run),
    ):
        await eventually(lambda: _seen(new, 4))
        await eventually(lambda: _seen(old, 2))
        await eventually(lambda: held(database))
        for _ in range(5):
            assert await redriver.work_off() == 1  # looked at, as often as it is due, and no attempt is spent
    assert [n.words for n in new.seen if n.document_id == document] == [("one",), ("two", "words"), ("three",)]
    assert {note.text for note in old.seen} == {"one", "another key"}
    waiting, behind = await held(database)
    assert (waiting["state"], waiting["reason"], waiting["attempts"]) == ("retrying", "unknown_version", 0)
    assert behind["reason"] == "behind"

    upgraded = Release("old", Noted, batch=batch)
    async with running(Redriver(database, upgraded.subscription, interval=0.01).run):
        await eventually(lambda: _empty(database))
    assert [note.words for note in upgraded.seen] == [("two", "words"), ("three",)]


async def _seen(release: Release, many: int) -> bool:
    return len(release.seen) == many


async def _empty(database: Database) -> bool:
    return await held_key_count(database) == 0


async def test_a_version_that_is_waited_for_too_long_is_a_dead_letter(
    database: Database, bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redrive, "VERSION_LIMIT", 0.0)
    release, document = Release("old", NotedV1), uuid7()
    bus.append(_record(Noted(document_id=document, words=("x",)), 1))
    async with (
        running(SubscriptionRunner(database, bus, release.subscription).run),
        running(Redriver(database, release.subscription, interval=0.01).run),
    ):
        await eventually(lambda: _dead(database))
    (row,) = await held(database)
    assert (row["reason"], row["attempts"]) == ("unknown_version", 0)


async def _dead(database: Database) -> bool:
    return [row["state"] for row in await held(database)] == ["dead"]


@pytest.mark.parametrize("event_type", ["test.document.noted", "test.document.noted.v0", "test.document.renamed.v9"])
async def test_only_later_versions_of_a_type_are_waited_for(
    database: Database, bus: MemoryBus, event_type: str
) -> None:
    release, document = Release("old", NotedV1), uuid7()
    bus.append(_record(NotedV1(document_id=document, text="x"), 1, event_type))
    bus.append(_record(NotedV1(document_id=document, text="next"), 2))
    async with running(SubscriptionRunner(database, bus, release.subscription).run):
        await eventually(lambda: _seen(release, 1))
    assert await held(database) == []


async def test_an_earlier_version_that_breaks_its_contract_is_a_dead_letter(database: Database, bus: MemoryBus) -> None:
    release, document = Release("new", Noted), uuid7()
    record = _record(NotedV1(document_id=document, text="x"), 1)
    bus.append(Record(topic=record.topic, key=record.key, headers=record.headers, value=b'{"text": 1}'))
    async with running(SubscriptionRunner(database, bus, release.subscription).run):
        (row,) = await eventually(lambda: held(database))
    assert (row["state"], row["reason"]) == ("dead", "unreadable")
    assert "test.document.noted.v1: document_id: Field required" in row["error"]


def test_a_version_has_to_follow_the_one_that_it_replaces() -> None:
    with pytest.raises(TypeError, match=r"test\.document\.other\.v2 does not follow"):

        class Other(EventData, type="test.document.other.v2", topic=DOCUMENTS, key="document_id", replaces=NotedV1):
            document_id: UUID

    with pytest.raises(TypeError, match=r"two handlers for test\.document\.noted\.v1"):
        both = Subscription("both", topic=DOCUMENTS)
        both.on(Noted)(_never)
        both.on(NotedV1)(_never)


async def _never(_tx: Transaction, _event: Event[Any]) -> Verdict:
    return DONE
