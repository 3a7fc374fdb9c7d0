"""What a service tells of its dead letters, and what it does when it is told what was decided about them."""

import base64
import os
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import orjson
import pytest
from prometheus_client import REGISTRY

from kgl_contracts.dead_letters import DeadLetterDecided, DeadLetterMoved, DeadLetterNoted, packed, unpacked
from kgl_contracts.envelope import EVENT_LIMIT, Envelope
from kgl_contracts.event import EventData
from kgl_contracts.ingest import DocumentDeleted
from kgl_contracts.topics import DECISIONS, DOCUMENTS, OPERATIONS
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.bus.port import Record
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.decisions import decision_subscription
from kgl_servicekit.events.held_metrics import HeldMetrics
from kgl_servicekit.events.letters import tell
from kgl_servicekit.events.outbox import EventRefused
from kgl_servicekit.events.redrive import Redriver
from kgl_servicekit.events.subscription import DONE, Event, Reject, Subscription, Verdict
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.events import WORKSPACE, Handler, consumed_events, held, held_key_count, record, running
from kgl_servicekit.testing.jobs import Work
from kgl_servicekit.testing.polling import eventually

OPERATOR = uuid7()


async def emitted(database: Database, topic: str) -> list[dict[str, Any]]:
    """The events of a topic in the outbox, in order; each with its type and actor."""

    async def read(tx: Transaction, _: None) -> list[dict[str, Any]]:
        rows = await tx.fetch(
            "select type, actor, workspace_id, convert_from(data, 'UTF8')::jsonb as data"
            " from outbox_log where topic = $1 order by id",
            topic,
        )
        return [{"TYPE": row["type"], "ACTOR": row["actor"], "OF": row["workspace_id"], **row["data"]} for row in rows]

    return await database.run((), read, None)


async def news(database: Database) -> list[dict[str, Any]]:
    return [each for each in await emitted(database, OPERATIONS.name) if "dead_letter" in each["TYPE"]]


async def stages(database: Database) -> list[tuple[str, str, str | None]]:
    """What receipts of the operator's workspace were told."""
    reports = [each for each in await emitted(database, OPERATIONS.name) if "entries" in each]
    entries = [entry for report in reports for entry in report["entries"] if entry["workspace_id"] == str(OPERATOR)]
    return [(entry["stage"], entry["state"], entry.get("error")) for entry in entries]


def _record(data: EventData, envelope: Envelope) -> Record:
    value = data.model_dump_json().encode()
    return Record(topic=data.topic.name, key=data.key, headers=envelope.headers(), value=value)


class Decided:
    """Decisions as they come from ingest, numbered by letter."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus
        self._last: dict[UUID, int] = {}

    def send(self, letter: UUID, act: str, *, service: str = "counter", **more: Any) -> None:
        data = DeadLetterDecided(letter_id=letter, service=service, subscription="counter.documents", act=act, **more)
        self._last[letter] = self._last.get(letter, 0) + 1
        envelope = Envelope(
            id=uuid7(),
            type=data.event_type,
            source="ingest",
            time=datetime.now(UTC),
            workspace_id=OPERATOR,
            operation_id=uuid7(),
            actor_id="user:somebody",
            sequence=self._last[letter],
        )
        self._bus.append(_record(data, envelope))


@pytest.fixture
async def decided(bus: MemoryBus) -> Decided:
    await bus.declare([DECISIONS, OPERATIONS])
    return Decided(bus)


def at_work(database: Database, bus: MemoryBus, handler: Handler | Subscription) -> Any:
    """Both subscriptions, and what tries again."""
    subscription = handler if isinstance(handler, Subscription) else handler.subscription
    decisions = decision_subscription("counter", [subscription])
    return running(
        SubscriptionRunner(database, bus, subscription).run,
        SubscriptionRunner(database, bus, decisions).run,
        Redriver(database, subscription, interval=0.01).run,
    )


async def _told(database: Database, expected: int) -> list[dict[str, Any]]:
    found = await news(database)
    return found if len(found) >= expected else []


async def _reported(database: Database, expected: int) -> list[tuple[str, str, str | None]]:
    found = await stages(database)
    return found if len(found) >= expected else []


async def _letter(database: Database, bus: MemoryBus, handler: Handler, document: UUID) -> UUID:
    """A rejected event, told of."""
    handler.reject = {1}
    bus.append(record(document, 1))
    return UUID((await eventually(lambda: _told(database, 1)))[0]["letter_id"])


async def test_a_dead_letter_is_told_with_its_data_and_what_waits_behind_it(
    database: Database, bus: MemoryBus, decided: Decided
) -> None:
    handler, document = Handler(), uuid7()
    handler.reject = {1}
    bus.append(record(document, 1))
    bus.append(record(document, 2))
    async with at_work(database, bus, handler):
        await eventually(lambda: _told(database, 1))
        bus.append(record(document, 3))
        found = await eventually(lambda: _waiting(database, 2))
    noted = DeadLetterNoted.model_validate({**found[0]})
    assert (noted.service, noted.subscription, noted.workspace_id) == ("counter", "counter.documents", WORKSPACE)
    assert (noted.event.key, noted.event.type, noted.event.sequence) == (str(document), DocumentDeleted.event_type, 1)
    assert (noted.reason, noted.error, noted.attempts) == ("rejected", "we do not like it", 1)
    assert unpacked(noted.value) == DocumentDeleted(document_id=document, version=1).model_dump_json().encode()
    assert (noted.size, noted.headers["ce_source"]) == (len(unpacked(noted.value)), "ingest")
    assert {each["OF"] for each in found} == {WORKSPACE}
    subscription = handler.subscription
    await database.run((), _tell, (subscription, str(document)))
    assert await news(database) == found  # what was told is not told again
    last = DeadLetterMoved.model_validate(found[-1])
    assert (last.state, last.waiting, [each.sequence for each in last.next_waiting]) == ("dead", 2, [2, 3])


async def _waiting(database: Database, expected: int) -> list[dict[str, Any]]:
    found = await news(database)
    return found if found and found[-1]["waiting"] == expected else []


async def _tell(tx: Transaction, place: tuple[Subscription, str]) -> None:
    subscription, key = place
    await tell(tx, subscription.name, subscription.topic.name, [key])


async def test_letters_that_nobody_told_of_are_told_with_the_next_sample(
    database: Database, bus: MemoryBus, decided: Decided, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kgl_servicekit.events.redrive.HeldMetrics", partial(HeldMetrics, every=0.0))
    handler, document = Handler(), uuid7()

    async def forget(tx: Transaction, _: None) -> None:
        await tx.execute("update held_event set letter = null, told = null")

    async with at_work(database, bus, handler):
        letter = await _letter(database, bus, handler, document)
        await database.run((), forget, None)  # as an older worker writes it, while this one is at work
        found = await eventually(lambda: _told(database, 2))
    assert [(each["TYPE"], each["letter_id"]) for each in found] == [(DeadLetterNoted.event_type, str(letter))] * 2


async def test_an_act_on_a_letter_of_no_workspace_is_in_the_audit_log_of_the_instance(
    database: Database, bus: MemoryBus, decided: Decided
) -> None:
    handler, sent = Handler(), record(uuid7(), 1, value=b"nothing to read")
    headers = {name: value for name, value in sent.headers.items() if name != "ce_workspaceid"}
    bus.append(replace(sent, headers=headers))
    async with at_work(database, bus, handler):
        noted = (await eventually(lambda: _told(database, 1)))[0]
        decided.send(UUID(noted["letter_id"]), "discard", reason="nobody's")
        await eventually(lambda: _reported(database, 1))
    assert (noted["workspace_id"], noted["OF"]) == (None, None)
    assert [(each["scope"], each["OF"]) for each in await emitted(database, "kgl.audit")] == [("instance", None)]


async def test_a_decision_to_redrive_is_told_to_its_receipt_until_the_event_is_handled(
    database: Database, bus: MemoryBus, decided: Decided
) -> None:
    handler, document = Handler(attempts=2), uuid7()
    async with at_work(database, bus, handler):
        letter = await _letter(database, bus, handler, document)
        decided.send(letter, "redrive")
        await eventually(lambda: _reported(database, 2))
        handler.reject = set()
        decided.send(letter, "redrive")
        told = await eventually(lambda: _reported(database, 4))
        await eventually(lambda: _released(database))
    stage = f"counter.redrive.{letter}"
    assert told == [
        (stage, "running", None),
        (stage, "failed", "dead_again"),
        (stage, "running", None),
        (stage, "done", None),
    ]
    assert [each.get("state") for each in await news(database)] == [None, "retrying", "dead", "retrying", "settled"]
    assert set(await consumed_events(database)) == {f"{document}/1"}
    audited = await emitted(database, "kgl.audit")
    assert [(each["action"], each["ACTOR"], each["scope"]) for each in audited] == [
        ("dead_letter.redrive", "user:somebody", str(WORKSPACE))
    ] * 2


async def _released(database: Database) -> bool:
    return await held_key_count(database) == 0


async def test_a_redrive_reopens_the_stage_of_the_receipt_as_its_next_run_to_the_end_of_the_job_that_follows(
    database: Database, bus: MemoryBus, decided: Decided
) -> None:
    refused, document, operation = [True], uuid7(), uuid7()
    subscription = Subscription("counter.documents", topic=DOCUMENTS)

    @subscription.on(DocumentDeleted, stage="work")
    async def begin(tx: Transaction, event: Event[DocumentDeleted]) -> Verdict:
        if refused[0]:
            return Reject("not yet")
        await tx.start_job(Work(name="a"))
        await tx.report("work", "skipped")
        return DONE

    first = record(document, 1)
    bus.append(replace(first, headers={**first.headers, "ce_operationid": str(operation)}))
    async with at_work(database, bus, subscription):
        letter = UUID((await eventually(lambda: _told(database, 1)))[0]["letter_id"])
        decided.send(letter, "redrive")
        await eventually(lambda: _reported(database, 2))
        refused[0] = False
        decided.send(letter, "redrive")
        await eventually(lambda: _released(database))
    reports = [each for each in await emitted(database, OPERATIONS.name) if "entries" in each]
    of_document = [entry for each in reports for entry in each["entries"] if entry["operation_id"] == str(operation)]
    assert [(entry.get("run", 1), entry["state"]) for entry in of_document] == [
        (1, "failed"),
        (2, "running"),
        (2, "failed"),
        (3, "running"),
        (3, "skipped"),
    ]

    async def run_of_job(tx: Transaction, _: None) -> int:
        found: int = await tx.fetchval("select run from job")
        return found

    assert await database.run((), run_of_job, None) == 3


async def test_an_event_that_is_retried_and_was_no_letter_is_not_told(
    database: Database, bus: MemoryBus, decided: Decided
) -> None:
    handler, document = Handler(attempts=50), uuid7()
    handler.fail = {1}
    bus.append(record(document, 1))
    async with at_work(database, bus, handler):
        await eventually(lambda: _tried(database, 3))
        handler.fail = set()
        await eventually(lambda: _consumed(database, 1))
        await eventually(lambda: _released(database))
    assert await news(database) == []


async def _tried(database: Database, attempts: int) -> bool:
    rows = await held(database)
    return bool(rows) and rows[0]["attempts"] >= attempts


async def _consumed(database: Database, expected: int) -> bool:
    return len(await consumed_events(database)) == expected


async def test_a_correction_and_then_a_redrive_handle_the_new_data(
    database: Database, bus: MemoryBus, decided: Decided
) -> None:
    handler, document = Handler(), uuid7()
    value = DocumentDeleted(document_id=document, version=77).model_dump_json().encode()
    async with at_work(database, bus, handler):
        letter = await _letter(database, bus, handler, document)
        decided.send(letter, "correct", value=packed(value))
        decided.send(letter, "redrive")
        await eventually(lambda: _consumed(database, 1))
    assert set(await consumed_events(database)) == {f"{document}/77"}
    corrected = [each for each in await news(database) if each.get("corrected")]
    assert [unpacked(each["corrected"]) for each in corrected] == [value]
    assert (f"counter.correct.{letter}", "done", None) in await stages(database)


async def test_a_correction_as_large_as_an_event_is_told_without_the_error_of_the_data_that_came(
    database: Database, bus: MemoryBus, decided: Decided
) -> None:
    handler, document = Handler(), uuid7()
    more = base64.b64encode(os.urandom(46_850)).decode()
    value = orjson.dumps({"document_id": str(document), "version": 7, "more": more})
    assert EVENT_LIMIT - 2600 < len(packed(value)) < EVENT_LIMIT - 2048

    async def lengthen(tx: Transaction, _: None) -> None:
        await tx.execute("update held_event set error = repeat('x', 4000)")

    async with at_work(database, bus, handler):
        letter = await _letter(database, bus, handler, document)
        await database.run((), lengthen, None)
        decided.send(letter, "correct", value=packed(value))
        assert await eventually(lambda: _reported(database, 1)) == [(f"counter.correct.{letter}", "done", None)]
    last = (await news(database))[-1]
    assert (unpacked(last["corrected"]), last["error"]) == (value, None)


async def test_a_decision_that_fails_midway_leaves_nothing_behind(
    database: Database, bus: MemoryBus, decided: Decided, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unable(*_: object) -> None:
        raise EventRefused("larger than an event can be")

    monkeypatch.setattr("kgl_servicekit.events.dead_letters.tell_corrected", unable)
    handler, document = Handler(), uuid7()
    value = DocumentDeleted(document_id=document, version=7).model_dump_json().encode()
    async with at_work(database, bus, handler):
        letter = await _letter(database, bus, handler, document)
        decided.send(letter, "correct", value=packed(value))
        await eventually(lambda: _held(database, 2))
    rows = {row["subscription"]: row for row in await held(database)}
    assert rows["counter.documents"]["corrected"] is None
    assert (rows["counter.decisions"]["state"], rows["counter.decisions"]["reason"]) == ("retrying", "failed")
    assert await stages(database) == []


async def test_decisions_that_come_together_are_each_carried_out_in_their_own_transaction(
    database: Database, bus: MemoryBus, decided: Decided
) -> None:
    handler, documents = Handler(), [uuid7(), uuid7()]
    handler.reject = {1}
    for document in documents:
        bus.append(record(document, 1))
    async with at_work(database, bus, handler):
        letters = [UUID(each["letter_id"]) for each in await eventually(lambda: _told(database, 2))]
    for letter in letters:
        decided.send(letter, "discard", reason="a test event")
    async with at_work(database, bus, handler):
        await eventually(lambda: _reported(database, 2))

    async def transactions(tx: Transaction, _: None) -> int:
        found: int = await tx.fetchval("select count(distinct xmin::text) from outbox_log where topic = 'kgl.audit'")
        return found

    assert await database.run((), transactions, None) == 2


async def test_a_discard_is_told_with_its_reason(database: Database, bus: MemoryBus, decided: Decided) -> None:
    handler, document = Handler(), uuid7()
    async with at_work(database, bus, handler):
        letter = await _letter(database, bus, handler, document)
        decided.send(letter, "discard", reason="a test event")
        await eventually(lambda: _reported(database, 1))
    last = (await news(database))[-1]
    assert (last["state"], last["note"]) == ("discarded", "a test event")
    assert await stages(database) == [(f"counter.discard.{letter}", "done", None)]
    assert await consumed_events(database) == {}


@pytest.mark.parametrize(
    ("act", "more", "code"),
    [
        ("correct", {"value": packed(b'{"document_id": "no id"}')}, "invalid"),
        (
            "correct",
            {"value": packed(DocumentDeleted(document_id=uuid7(), version=1).model_dump_json().encode())},
            "invalid",
        ),
        ("correct", {"value": "no data at all"}, "invalid"),
    ],
)
async def test_what_does_not_meet_the_contract_or_has_another_key_fails_its_receipt_alone(
    database: Database, bus: MemoryBus, decided: Decided, act: str, more: dict[str, str], code: str
) -> None:
    handler, document = Handler(), uuid7()
    async with at_work(database, bus, handler):
        letter = await _letter(database, bus, handler, document)
        decided.send(letter, act, **more)
        assert await eventually(lambda: _reported(database, 1)) == [(f"counter.{act}.{letter}", "failed", code)]
    assert (await held(database))[0]["corrected"] is None


async def test_decisions_that_come_too_late_or_are_for_others_change_nothing(
    database: Database, bus: MemoryBus, decided: Decided
) -> None:
    handler, document, nobody = Handler(), uuid7(), uuid7()
    async with at_work(database, bus, handler):
        letter = await _letter(database, bus, handler, document)
        decided.send(letter, "discard", service="another", reason="not ours")
        decided.send(nobody, "discard", reason="never there")
        assert await eventually(lambda: _reported(database, 1)) == [
            (f"counter.discard.{nobody}", "failed", "dead_letter_not_found")
        ]
    (still,) = await held(database)
    assert (still["state"], still["letter"]) == ("dead", letter)


async def test_a_letter_about_letters_is_not_told(database: Database, bus: MemoryBus, decided: Decided) -> None:
    subscription = Subscription("counter.letters", topic=OPERATIONS)

    @subscription.on(DeadLetterMoved)
    async def refuse(tx: Transaction, event: Event[DeadLetterMoved]) -> Verdict:
        return Reject("no")

    bus.append(_event(DeadLetterMoved.example()))
    async with running(SubscriptionRunner(database, bus, subscription).run):
        await eventually(lambda: _held(database, 1))
    assert await news(database) == []


async def _held(database: Database, expected: int) -> bool:
    return len(await held(database)) == expected


def _event(data: EventData) -> Record:
    envelope = Envelope(id=uuid7(), type=data.event_type, source="a", time=datetime.now(UTC), sequence=1)
    return _record(data, envelope)


async def test_data_that_no_event_could_carry_are_told_as_far_as_one_does(
    database: Database, bus: MemoryBus, decided: Decided
) -> None:
    handler, document = Handler(), uuid7()
    value = os.urandom(3 * EVENT_LIMIT)
    sent = record(document, 1, value=value)
    bus.append(replace(sent, headers={**sent.headers, "more": "h" * EVENT_LIMIT}))
    async with at_work(database, bus, handler):
        noted = DeadLetterNoted.model_validate((await eventually(lambda: _told(database, 1)))[0])
    kept = unpacked(noted.value)
    assert noted.size == len(value)
    assert len(kept) > 10_000
    assert value.startswith(kept)
    assert noted.headers["ce_source"] == "ingest"


async def test_headers_that_no_event_could_carry_are_told_as_far_as_one_does(
    database: Database, bus: MemoryBus, decided: Decided
) -> None:
    handler, document = Handler(), uuid7()
    handler.reject = {1}
    for sequence in range(1, 22):
        sent = record(document, sequence)
        headers = sent.headers if sequence == 1 else {**sent.headers, "ce_type": "long" * EVENT_LIMIT}
        bus.append(replace(sent, headers={**headers, **{f"h{n}": "\x01" * 600 for n in range(20)}}))
    strange = {f"{n:02}" + "\x02" * 900: "\x01" * 900 for n in range(20)}
    bus.append(replace(record(uuid7(), 1), headers={"ce_type": "\x01" * EVENT_LIMIT, **strange}))
    async with at_work(database, bus, handler):
        await eventually(lambda: _held(database, 22))
    found = await news(database)
    behind = next(each["next_waiting"] for each in found if each["waiting"] == 20)
    assert [len(each["type"]) for each in behind] == [300] * 20
    rejected, unreadable = [each for each in found if each["TYPE"] == DeadLetterNoted.event_type]
    if rejected["reason"] == "unreadable":  # they come in any order
        rejected, unreadable = unreadable, rejected
    assert {len(text) for name, text in rejected["headers"].items() if name.startswith("h")} == {50}
    assert [len(name) for name in unreadable["headers"]] == [7, *[50] * 19]

    async def lengthen(tx: Transaction, _: None) -> None:
        await tx.execute("update held_event set type = repeat('x', 70000), letter = null, told = null")

    await database.run((), lengthen, None)
    await database.run((), _tell, (handler.subscription, str(document)))
    assert (await news(database))[-1]["event"]["type"] == "x" * 300


async def test_an_event_is_held_even_if_no_news_can_tell_of_it(
    database: Database, bus: MemoryBus, decided: Decided, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(*_: object) -> DeadLetterNoted:
        raise EventRefused("larger than an event can be")

    monkeypatch.setattr("kgl_servicekit.events.letters._noted", unable)
    handler = Handler()
    handler.reject = {1}
    bus.append(record(uuid7(), 1))
    async with running(SubscriptionRunner(database, bus, handler.subscription).run):
        await eventually(lambda: _held(database, 1))
    assert await news(database) == []


async def test_what_is_held_is_counted(database: Database, bus: MemoryBus, decided: Decided) -> None:
    handler, document = Handler(), uuid7()
    metrics = HeldMetrics(database, [handler.subscription.name], every=0.0)
    name = {"subscription": handler.subscription.name}

    def counted() -> tuple[float | None, float | None, bool]:
        oldest = REGISTRY.get_sample_value("kgl_dead_letter_oldest_seconds", name)
        dead = REGISTRY.get_sample_value("kgl_dead_letters", {**name, "reason": "rejected"})
        return dead, REGISTRY.get_sample_value("kgl_held_events", name), (oldest or 0) > 0

    async with at_work(database, bus, handler):
        letter = await _letter(database, bus, handler, document)
        bus.append(record(document, 2))
        await eventually(lambda: _held(database, 2))
        await metrics.sample()
        assert counted() == (1, 1, True)
        decided.send(letter, "discard", reason="enough")
        await eventually(lambda: _released(database))
    await metrics.sample()
    assert counted() == (0, 0, False)
