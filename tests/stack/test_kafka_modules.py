"""A module of somebody else on Kafka: a process on this machine, with exactly what `kgl module register` printed."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError

from kgl_cli.testing import prepared_kafka
from kgl_client.events import Event, EventModule, KafkaEvents
from kgl_client.events.running import kafka_environment, kafka_options
from kgl_contracts.ai import ExtractionRequested
from kgl_contracts.envelope import Envelope
from kgl_contracts.topics import AI, OPERATIONS, module_topic
from kgl_servicekit.bus.kafka import KafkaBus
from kgl_servicekit.bus.kafka_connection import KafkaConnection
from kgl_servicekit.bus.port import Consumer, Record, StoredRecord
from kgl_servicekit.testing.kafka_broker import ADMIN_PASSWORD, ENVIRONMENT, KafkaBroker
from kgl_servicekit.testing.polling import eventually

NAME = "tagger"
MODULE = """
from kgl_client.events import EventModule, run
from kgl_contracts.ai import ExtractionRequested
from kgl_contracts.given import ExtractionGiven

events = EventModule("tagger")

@events.on(ExtractionRequested)
async def answer(event):
    given = ExtractionGiven.example().model_dump() | {"request_id": event.data.request_id}
    return ExtractionGiven.model_validate(given)

run(events)
"""


@pytest.fixture(scope="module")
def broker() -> Iterator[KafkaBroker]:
    with prepared_kafka() as (broker, _):
        yield broker


def register(broker: KafkaBroker, folder: Path, name: str, *options: str) -> Path:
    """The command, as the operator gives it; the answer is the file of its standard output."""
    environment = {
        **os.environ,
        "KGL_HOME": str(folder / "home"),
        "KGL_KAFKA_ADMIN_BOOTSTRAP": broker.admin,
        "KGL_KAFKA_ADMIN_PASSWORD": ADMIN_PASSWORD,
        "KGL_KAFKA_MODULE_BOOTSTRAP": broker.clients,
        "KGL_KAFKA_TOPICS": str(ENVIRONMENT.with_name("topics.yaml")),
    }
    command = [sys.executable, "-m", "kgl_cli.main", "module", "register", name, "--kafka", *options]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert ("not enabled in a workspace: no credentials.json" in done.stderr) is ("--capability" in options)
    file = folder / f"{name}.properties"
    file.write_text(done.stdout)
    return file


def login(file: Path) -> KafkaConnection:
    found = kafka_environment({"KGL_KAFKA_PROPERTIES": str(file)})
    return KafkaConnection(
        bootstrap=found["KGL_KAFKA_BOOTSTRAP"],
        user=found["KGL_KAFKA_USER"],
        password=found["KGL_KAFKA_PASSWORD"],
        mechanism=found["KGL_KAFKA_MECHANISM"],
    )


async def from_zero(partitions: frozenset[int]) -> Mapping[int, int]:
    return dict.fromkeys(partitions, 0)


async def read_one(consumer: Consumer) -> StoredRecord:
    async def polled() -> list[StoredRecord]:
        return [record for batch in await consumer.poll(10, 0.5) for record in batch.records]

    (found, *_) = await eventually(polled, within=60)
    return found


async def test_a_module_process_takes_requests_and_answers_on_its_own_topic(
    broker: KafkaBroker, tmp_path: Path
) -> None:
    properties = await asyncio.to_thread(register, broker, tmp_path, NAME, "--capability", "extract")
    graph = KafkaBus(broker.user("graph", "graph-secret"))
    await graph.start()
    request = ExtractionRequested.example()
    envelope = Envelope(
        id=uuid4(), type=request.event_type, source="graph", time=datetime.now(UTC), workspace_id=uuid4()
    )
    producer = graph.producer()
    await producer.start()
    value = request.model_dump_json().encode()
    await producer.send([Record(topic=AI.name, key=request.key, headers=envelope.headers(), value=value)])
    answers = graph.consumer(module_topic(NAME).name, f"graph.module.{NAME}", from_zero)
    await answers.start()
    environment = {"PATH": os.environ["PATH"], "KGL_KAFKA_PROPERTIES": str(properties)}
    module = await asyncio.create_subprocess_exec(sys.executable, "-c", MODULE, env=environment)
    try:
        answer = await read_one(answers)
        assert Envelope.from_headers(answer.headers).type == "ai.extraction.given.v1"
        assert str(request.request_id) in answer.value.decode()
    finally:
        module.terminate()
        await module.wait()
        await answers.stop()
        await producer.stop()
        await graph.stop()


async def test_a_module_is_refused_on_the_topics_and_groups_of_others(broker: KafkaBroker, tmp_path: Path) -> None:
    mine = await asyncio.to_thread(register, broker, tmp_path, "mine", "--capability", "extract")
    await asyncio.to_thread(register, broker, tmp_path, "theirs", "--topic", AI.name)
    options = login(mine).for_aiokafka()
    producer = AIOKafkaProducer(**options, acks="all", enable_idempotence=True)
    await producer.start()
    await producer.send_and_wait(module_topic("mine").name, b"{}", partition=0)
    for topic in (module_topic("theirs").name, AI.name, "x.theirs.dead-letters"):
        with pytest.raises(TopicAuthorizationFailedError):
            await producer.send_and_wait(topic, b"{}", partition=0)
    await producer.stop()
    for topic, group, refusal in (
        (AI.name, "theirs", GroupAuthorizationFailedError),
        (AI.name, "graph.ai", GroupAuthorizationFailedError),
        (OPERATIONS.name, "mine", TopicAuthorizationFailedError),
        (module_topic("theirs").name, "mine", TopicAuthorizationFailedError),
    ):
        consumer = AIOKafkaConsumer(topic, **options, group_id=group)
        try:
            with pytest.raises(refusal):
                await consumer.start()
                await asyncio.wait_for(consumer.getone(), 20)
        finally:
            await consumer.stop()


async def test_registering_again_gives_another_password_and_takes_what_is_not_asked_for(
    broker: KafkaBroker, tmp_path: Path
) -> None:
    before = await asyncio.to_thread(register, broker, tmp_path, "again", "--capability", "extract")
    first = login(before)
    second = login(await asyncio.to_thread(register, broker, tmp_path, "again", "--topic", "kgl.content"))
    assert second.password != first.password
    bus = KafkaBus(second, worker="again")
    await bus.start()
    assert await bus.end_offsets("kgl.content")
    with pytest.raises(Exception, match="does not allow"):
        await bus.end_offsets("kgl.ai")
    await bus.stop()


async def test_a_module_that_lacks_a_right_says_so_instead_of_waiting_for_ever(
    broker: KafkaBroker, tmp_path: Path
) -> None:
    properties = await asyncio.to_thread(register, broker, tmp_path, "blind", "--topic", AI.name)
    environment = kafka_environment({"KGL_KAFKA_PROPERTIES": str(properties)})
    module = EventModule("stranger")  # reads what it may, with a group that it may not use

    @module.on(ExtractionRequested)
    async def answer(event: Event[ExtractionRequested]) -> None: ...

    session = KafkaEvents(module, environment["KGL_KAFKA_BOOTSTRAP"], kafka_options(environment)).session()
    with pytest.raises(GroupAuthorizationFailedError):
        await asyncio.wait_for(session.run(), 30)
