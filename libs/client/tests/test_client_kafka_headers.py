"""Headers of foreign producers on a mock cluster: a module reads past them."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from aiokafka.consumer import fetcher

from kgl_client.events import Event, EventModule, KafkaEvents, Retry
from kgl_client.events.kafka import KafkaOptions
from kgl_contracts.envelope import Envelope
from kgl_contracts.event import EventData, with_example
from kgl_contracts.topics import Topic
from kgl_servicekit.testing.kafka_records import NoText, mock_kafka, send_batch

OPTIONS = KafkaOptions(session_timeout=2, graceful_stop=5, retry=Retry(attempts=1))


class ThingSeen(EventData, type="test.thing.seen.v1", topic=Topic("kgl.things"), key="thing_id"):
    """An event of a foreign producer."""

    model_config = with_example(thing_id=str(uuid4()))

    thing_id: UUID


def record(thing: UUID, name: str) -> tuple[bytes, list[tuple[str, bytes]]]:
    envelope = Envelope(
        id=uuid4(), type=ThingSeen.event_type, source="foreign", time=datetime(2026, 11, 23, tzinfo=UTC)
    )
    headers = [(name, value.encode()) for name, value in envelope.headers().items()]
    return ThingSeen(thing_id=thing).model_dump_json().encode(), [(name, b"1"), *headers]


async def test_a_header_whose_name_is_no_text_is_read_past(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "MemoryRecords", fetcher.MemoryRecords)  # is put back after the test
    things, heard, all_heard = [uuid4() for _ in range(3)], list[UUID](), asyncio.Event()
    events = EventModule("foreign-names")

    @events.on(ThingSeen)
    async def see(event: Event[ThingSeen]) -> None:
        heard.append(event.data.thing_id)
        if len(heard) == len(things):
            all_heard.set()

    with mock_kafka() as cluster:
        names = ("before", NoText("odd"), "behind")
        batch = [record(thing, name) for thing, name in zip(things, names, strict=True)]
        await send_batch(cluster.brokers, ThingSeen.topic.name, b"k", batch)
        task = asyncio.create_task(KafkaEvents(events, cluster.brokers, OPTIONS).work())
        try:
            await asyncio.wait_for(all_heard.wait(), 40)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert heard == things
