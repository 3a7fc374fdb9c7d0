"""An event that ends its key does not wait for those of it that are held; what is held finds itself superseded."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from uuid import UUID

import pytest

from kgl_contracts.ingest import DocumentAccepted, DocumentDeleted
from kgl_contracts.topics import DOCUMENTS
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.bus.port import Record
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.dead_letters import DeadLetter, redrive
from kgl_servicekit.events.redrive import Redriver
from kgl_servicekit.events.subscription import DONE, SUPERSEDED, Event, Reject, Subscription, Verdict
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.events import consumed_events, held, held_key_count, record, running
from kgl_servicekit.testing.polling import eventually


class Documents:
    """Takes no accepted document, until it is deleted: then there is nothing to do. Notes what it was given."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []
        self.deleting_fails = False
        self.subscription = Subscription("counter.documents", topic=DOCUMENTS, backoff=0.01)
        self.subscription.on(DocumentAccepted)(self._accepted)
        self.subscription.on(DocumentDeleted, ends_key=True)(self._deleted)

    async def _accepted(self, tx: Transaction, event: Event[DocumentAccepted]) -> Verdict:
        self.seen.append(("accepted", event.envelope.sequence or 0))
        gone = await tx.fetchval("select true from counter where name = $1", f"{event.key}/deleted")
        return SUPERSEDED if gone else Reject("not yet")

    async def _deleted(self, tx: Transaction, event: Event[DocumentDeleted]) -> Verdict:
        self.seen.append(("deleted", event.envelope.sequence or 0))
        if self.deleting_fails:
            raise RuntimeError("it hurts")
        await tx.execute("insert into counter values ($1, $2, 1)", tx.workspace, f"{event.key}/deleted")
        return DONE


def accepted(document: UUID, sequence: int) -> Record:
    event = DocumentAccepted.example().model_copy(update={"document_id": document})
    plain = record(document, sequence)
    headers = {**plain.headers, "ce_type": DocumentAccepted.event_type}
    return replace(plain, headers=headers, value=event.model_dump_json().encode())


async def _holds(database: Database) -> list[tuple[int, str, str]]:
    return [(row["sequence"], row["state"], row["reason"]) for row in await held(database)]


async def _are(read: Callable[[], Awaitable[object]], expected: object) -> bool:
    return await read() == expected


async def _work_off(database: Database, subscription: Subscription) -> None:
    """Decide for the letter to be tried again, and try what is held."""
    letter = DeadLetter(subscription, (await held(database))[0]["id"])
    await database.run((), redrive, letter)
    async with running(Redriver(database, subscription, interval=0.01).run):
        await eventually(lambda: _are(lambda: held_key_count(database), 0))


@pytest.mark.parametrize("apart", [False, True])
async def test_it_is_handled_although_its_key_is_held_and_what_is_held_is_superseded(
    database: Database, bus: MemoryBus, apart: bool
) -> None:
    documents, document = Documents(), uuid7()
    first = [accepted(document, 1), accepted(document, 2)]
    later = [record(document, 3), accepted(document, 4)]
    dead, parked = (1, "dead", "rejected"), (2, "waiting", "behind")
    await bus.producer().send(first if apart else first + later)
    async with running(SubscriptionRunner(database, bus, documents.subscription).run):
        if apart:
            await eventually(lambda: _are(lambda: _holds(database), [dead, parked]))
            await bus.producer().send(later)
        await eventually(lambda: _are(lambda: _holds(database), [dead, parked, (4, "waiting", "behind")]))
    assert await consumed_events(database) == {f"{document}/deleted": 1}
    await _work_off(database, documents.subscription)
    assert documents.seen[-3:] == [("accepted", 1), ("accepted", 2), ("accepted", 4)]
    assert await consumed_events(database) == {f"{document}/deleted": 1}


async def test_one_that_fails_waits_behind_what_is_held(database: Database, bus: MemoryBus) -> None:
    documents, document = Documents(), uuid7()
    documents.deleting_fails = True
    for each in (accepted(document, 1), record(document, 2)):
        bus.append(each)
    async with running(SubscriptionRunner(database, bus, documents.subscription).run):
        await eventually(lambda: _are(lambda: _holds(database), [(1, "dead", "rejected"), (2, "waiting", "behind")]))
    assert "it hurts" in (await held(database))[1]["error"]
    documents.deleting_fails = False
    documents.subscription.handlers[DocumentAccepted.event_type] = replace(
        documents.subscription.handlers[DocumentAccepted.event_type], handle=_takes
    )
    await _work_off(database, documents.subscription)
    assert await consumed_events(database) == {f"{document}/deleted": 1}


async def _takes(_tx: Transaction, _event: Event[DocumentAccepted]) -> Verdict:
    return DONE


async def test_one_whose_key_is_free_and_fails_is_tried_again(database: Database, bus: MemoryBus) -> None:
    documents, document = Documents(), uuid7()
    documents.deleting_fails = True
    bus.append(record(document, 1))
    async with running(SubscriptionRunner(database, bus, documents.subscription).run):
        await eventually(lambda: _are(lambda: _holds(database), [(1, "retrying", "failed")]))
