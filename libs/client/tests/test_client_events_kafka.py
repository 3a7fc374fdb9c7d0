"""A module's events on a Kafka of librdkafka's mock cluster: what crashes, outages and poison leave behind.

Run as a program, this file is a module's processes, of which one dies at each place.
"""

import asyncio
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka import ConsumerRecord
from aiokafka.errors import CommitFailedError, KafkaTimeoutError
from faststream import AckPolicy
from pydantic import Field

from kgl_client.events import CannotDo, Event, EventModule, KafkaEvents, Retry
from kgl_client.events.kafka import KafkaOptions, Place
from kgl_client.events.results import result_id
from kgl_contracts.envelope import Envelope
from kgl_contracts.event import EventData, with_example
from kgl_contracts.ingest import DocumentParsed
from kgl_contracts.topics import DOCUMENTS, Topic, dead_letter_topic, module_topic
from kgl_servicekit.testing.kafka_records import MockKafka, header, mock_kafka

PLACES: tuple[Place, ...] = ("received", "handled", "sent", "acknowledged", "committed")
OPTIONS = KafkaOptions(session_timeout=2, graceful_stop=5, retry=Retry(attempts=3, first_pause=0))
INPUTS = 6
DIED = 137


def keyword_type(module: str) -> type[EventData]:
    """The result type of one module of these tests."""

    class KeywordFound(EventData, type=f"x.{module}.keyword.found.v1", topic=module_topic(module), key="document_id"):
        """The module's word about a document: replaces its last one."""

        model_config = with_example(document_id=str(uuid4()), word="tea", said=1)

        document_id: UUID
        word: str
        said: int = Field(ge=0)

    return KeywordFound


class SourceMade(EventData, type="test.source.made.v1", topic=Topic("kgl.outage"), key="document_id"):
    """An event on a topic that no other test reads."""

    model_config = with_example(document_id=str(uuid4()))

    document_id: UUID


@pytest.fixture(scope="module")
def cluster() -> Iterator[MockKafka]:
    with mock_kafka() as cluster:
        yield cluster


def envelope(model: type[EventData]) -> Envelope:
    return Envelope(id=uuid4(), type=model.event_type, source="ingest", time=datetime(2026, 11, 23, tzinfo=UTC))


def parsed(document: UUID) -> DocumentParsed:
    return DocumentParsed.example().model_copy(update={"document_id": document})


@asynccontextmanager
async def working(runtime: KafkaEvents) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(runtime.work())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Any, within: float = 40.0) -> None:
    end = time.monotonic() + within
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < end, "not so in time"
        await asyncio.sleep(0.05)


def telling(module: str) -> EventModule:
    """A module that answers differently each time, once or twice for an event."""
    events, found, says = EventModule(module), keyword_type(module), itertools.count(os.getpid() % 1000)

    @events.on(DocumentParsed)
    async def tell(event: Event[DocumentParsed]) -> AsyncIterator[EventData]:
        said = next(says)
        for _ in range(1 + said % 2):
            yield found(document_id=event.data.document_id, word="tea", said=said)

    return events


async def test_a_crash_at_any_point_leaves_one_scope_of_results_for_each_event(cluster: MockKafka) -> None:
    keys = [uuid4() for _ in range(INPUTS)]
    causes = {key: cluster.emit(parsed(key)) for key in keys}
    before = len(cluster.read(DOCUMENTS.name))

    program = await asyncio.create_subprocess_exec(
        sys.executable, __file__, cluster.brokers, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert program.stdout is not None
    try:
        died = [await asyncio.wait_for(program.stdout.readline(), 60) for _ in PLACES]
        assert sorted(line.decode().strip() for line in died) == sorted(PLACES)
        for place in PLACES:
            await until(lambda place=place: cluster.committed(f"dies-{place}", DOCUMENTS.name) == before)
    finally:
        os.killpg(program.pid, signal.SIGKILL)
        await program.wait()
    for module in (f"dies-{place}" for place in PLACES):
        results = [m for m in cluster.read(module_topic(module).name) if UUID(m.key().decode()) in causes]
        kind = f"x.{module}.keyword.found.v1"
        for key, cause in causes.items():
            mine = [m for m in results if m.key().decode() == str(key)]
            ids = {header(m, "ce_id") for m in mine}
            assert ids, f"{module} lost the event about {key}"
            assert ids <= {str(result_id(module, cause, kind, n)) for n in (1, 2)}
            assert {header(m, "ce_causationid") for m in mine} == {str(cause)}
            assert {header(m, "ce_time") for m in mine} == {"2026-11-23T00:00:00+00:00"}
        assert {header(m, "ce_source") for m in results} == {module}
        assert all("ce_sequence" not in dict(m.headers()) for m in results)


def test_every_subscriber_is_acknowledged_by_hand_and_reads_from_the_start() -> None:
    session = KafkaEvents(telling("settings"), "127.0.0.1:1").session()
    (subscriber,) = session.broker.subscribers
    assert subscriber.ack_policy is AckPolicy.MANUAL
    options = subscriber._connection_args
    assert (options["enable_auto_commit"], options["auto_offset_reset"]) == (False, "earliest")
    assert [assignor.name for assignor in options["partition_assignment_strategy"]] == ["roundrobin"]
    assert not hasattr(subscriber, "max_workers")
    producer = session.broker._connection_kwargs
    assert (producer["acks"], producer["enable_idempotence"]) == ("all", True)


async def test_poison_becomes_a_dead_letter_and_the_others_go_on_and_it_can_be_redriven(cluster: MockKafka) -> None:
    keys = [uuid4() for _ in range(4)]
    events, found = EventModule("poisoned"), keyword_type("poisoned")
    poison: dict[UUID, Exception] = {keys[0]: ValueError("not now"), keys[1]: CannotDo("too_odd", "never")}
    calls: list[UUID] = []

    @events.on(DocumentParsed)
    async def tell(event: Event[DocumentParsed]) -> EventData | None:
        key = event.data.document_id
        calls.append(key)
        if key in poison:
            raise poison[key]
        return found(document_id=key, word="tea", said=1) if key in keys else None

    for key in keys[:3]:
        cluster.emit(parsed(key))
    cluster.put(DOCUMENTS.name, str(keys[3]), b"{}", [("ce_id", None), ("ce_type", b"\xff\xfe")])
    cluster.put(DOCUMENTS.name, str(keys[3]), b"no json", list(envelope(DocumentParsed).headers().items()))
    cluster.emit(parsed(keys[3]))
    dead_letters, results = dead_letter_topic("poisoned"), module_topic("poisoned").name
    runtime = KafkaEvents(events, cluster.brokers, OPTIONS)
    async with working(runtime):
        total = len(cluster.read(DOCUMENTS.name))
        await until(lambda: cluster.committed("poisoned", DOCUMENTS.name) == total)
    assert (calls.count(keys[0]), calls.count(keys[1])) == (3, 1)
    dead = {(m.key().decode(), header(m, "dead_reason")): m for m in cluster.read(dead_letters)}
    assert dead.keys() == {
        (str(keys[0]), "handler_failed"),
        (str(keys[1]), "cannot_do"),
        (str(keys[3]), "unreadable"),
    }
    first = dead[str(keys[0]), "handler_failed"]
    assert header(first, "dead_error") == "ValueError: not now"
    assert DocumentParsed.model_validate_json(first.value()).document_id == keys[0]
    assert sorted(m.key().decode() for m in cluster.read(results)) == sorted(map(str, keys[2:]))
    count = len(cluster.read(dead_letters))
    assert count == 4
    poison.clear()
    assert await runtime.redrive() == count
    assert {m.key().decode() for m in cluster.read(results)} == set(map(str, keys))
    assert len(cluster.read(dead_letters)) == count + 2  # what nobody can read is dead again
    assert await runtime.redrive() == 2


async def test_headers_that_are_null_or_no_text_are_survived(cluster: MockKafka) -> None:
    key = uuid4()
    odd = [("empty", None), ("odd", b"\xff"), ("reply_to", b"elsewhere")]
    headers = [*envelope(DocumentParsed).headers().items(), *odd]
    cluster.put(DOCUMENTS.name, str(key), parsed(key).model_dump_json().encode(), headers)
    heard = asyncio.Event()
    events = EventModule("headers")

    @events.on(DocumentParsed)
    async def tell(event: Event[DocumentParsed]) -> None:
        if event.data.document_id == key:
            heard.set()

    async with working(KafkaEvents(events, cluster.brokers, OPTIONS)):
        await asyncio.wait_for(heard.wait(), 40)
    assert cluster.read("elsewhere") == []


async def test_an_outage_repeats_a_record_and_neither_passes_it_nor_changes_the_order(cluster: MockKafka) -> None:
    """FastStream goes on after an exception, and the next commit would pass the failed record."""
    keys = [uuid4() for _ in range(3)]
    put: dict[UUID, list[UUID]] = {key: [cluster.emit(SourceMade(document_id=key)) for _ in range(3)] for key in keys}
    events, outages = EventModule("outage"), [1, 2]
    heard: list[UUID] = []

    @events.on(SourceMade)
    async def tell(event: Event[SourceMade]) -> None:
        heard.append(event.envelope.id)

    def passing(place: Place) -> None:
        if place == "sent" and outages:
            outages.pop()
            raise KafkaTimeoutError

    async with working(KafkaEvents(events, cluster.brokers, OPTIONS, passing=passing)):
        await until(lambda: cluster.committed("outage", SourceMade.topic.name) == 9, within=60)
    assert len(heard) == 9 + 2
    for ids in put.values():
        assert list(dict.fromkeys(id for id in heard if id in ids)) == ids


async def test_an_error_of_ours_ends_the_process_before_anything_is_committed(cluster: MockKafka) -> None:
    cluster.emit(parsed(uuid4()))

    def passing(place: Place) -> None:
        if place == "acknowledged":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(KafkaEvents(telling("broken"), cluster.brokers, OPTIONS, passing=passing).work(), 40)
    assert cluster.committed("broken", DOCUMENTS.name) == 0


async def test_a_commit_that_comes_after_a_rebalance_is_let_go(cluster: MockKafka) -> None:
    class Moved:
        async def commit(self, offsets: dict[Any, int]) -> None:
            raise CommitFailedError

    session = KafkaEvents(telling("moved"), cluster.brokers, OPTIONS).session()
    await session.broker.connect()
    record = ConsumerRecord(DOCUMENTS.name, 0, 0, 0, 0, None, b"{}", None, 2, 0, ())
    await session._settle(Moved(), record)
    await session.broker.stop()
    assert session.settled == 1


def main() -> None:
    """A process for each place, which dies there, and is followed by one that does not."""
    brokers = sys.argv[1]
    dying = {fork(brokers, place, dies=True): place for place in PLACES}
    while dying:
        pid, status = os.wait()
        place = dying.pop(pid)
        if os.waitstatus_to_exitcode(status) == DIED:
            sys.stdout.write(f"{place}\n")
            sys.stdout.flush()
            fork(brokers, place, dies=False)
    os.wait()


def fork(brokers: str, place: Place, *, dies: bool) -> int:
    """One process of the module `dies-<place>`; the answer is its id."""
    if pid := os.fork():
        return pid
    passed = 0

    def passing(at: Place) -> None:
        nonlocal passed
        passed += at == place
        if dies and passed == 2:  # one event is through, so that there is something to go back behind
            os._exit(DIED)

    asyncio.run(KafkaEvents(telling(f"dies-{place}"), brokers, OPTIONS, passing=passing).work())
    os._exit(0)


if __name__ == "__main__":
    main()
