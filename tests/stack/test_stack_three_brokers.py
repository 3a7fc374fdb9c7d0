"""Three brokers, by the compose file for them: each event is kept three times, and one broker can be away."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kgl_cli.stack import environment

ROOT = Path(__file__).parents[2]
PROJECT = "kgl-test-three"
FILES = ("docker-compose.yml", "docker-compose.kafka3.yml")
BROKERS = ("kafka", "kafka-2", "kafka-3")
ROUNDS, EACH = 40, 32

# In the network of the brokers, as ingest: round after round of events, which are sent again until they are
# acknowledged, as a relay does. At last it tells what was acknowledged, and what the topic has.
SEND = f"""
import asyncio, json, os
from kgl_contracts.topics import DOCUMENTS
from kgl_servicekit.bus.kafka import KafkaBus
from kgl_servicekit.bus.kafka_connection import KafkaConnection
from kgl_servicekit.bus.port import Record, SendFailed
from kgl_servicekit.errors import Unavailable

async def main():
    password = os.environ["KGL_KAFKA_PASSWORD"]
    bus = KafkaBus(KafkaConnection(bootstrap="kafka:9092,kafka-2:9092,kafka-3:9092", user="ingest", password=password))
    await bus.start()
    acked, producer = 0, None
    for number in range({ROUNDS}):
        keys = [f"{{number}}/{{key}}" for key in range({EACH})]
        records = [Record(topic=DOCUMENTS.name, key=key, headers={{}}, value=b"x") for key in keys]
        while records:
            try:
                if producer is None:
                    producer = bus.producer()
                    await producer.start()
                acks = await producer.send(records)
            except (SendFailed, Unavailable) as failed:
                acks = getattr(failed, "acked", ())
                await producer.stop()
                producer = None
            acked, records = acked + len(acks), records[len(acks):]
        print("round", number, flush=True)
        await asyncio.sleep(0.1)
    await producer.stop()
    print(json.dumps([acked, sum((await bus.end_offsets(DOCUMENTS.name)).values())]), flush=True)

asyncio.run(main())
"""
# As the administrator: how often the topic is kept, and how many have to have an event before it is acknowledged.
DESCRIBE = """
import asyncio, json
from kgl_cli.setup.kafka import KafkaAdminSettings, administrated
from kgl_servicekit.settings import settings_of

async def main():
    async with administrated(settings_of(KafkaAdminSettings)) as cluster:
        topic = (await cluster.topics(["kgl.documents"]))["kgl.documents"]
    print(json.dumps([topic.replication, topic.config["min.insync.replicas"]]))

asyncio.run(main())
"""


@pytest.fixture
async def brokers(tmp_path: Path) -> AsyncIterator[Path]:
    """The brokers alone, of a project of their own; the file of its settings."""
    path = tmp_path / "env"
    path.write_text(f"KGL_PROJECT={PROJECT}\nKGL_KAFKA_REPLICATION=3\n")
    environment.complete(path)
    try:
        await compose(path, "up", "--detach", "--wait", "--wait-timeout", "120", "--pull", "never", *BROKERS)
        await compose(path, "run", "--rm", "--no-deps", "setup-kafka")
        yield path
    finally:
        await compose(path, "down", "--volumes", "--timeout", "1")


def command(path: Path, *arguments: str) -> tuple[str, ...]:
    return "docker", "compose", "--env-file", str(path), *(f"--file={name}" for name in FILES), *arguments


async def started(path: Path, *arguments: str) -> asyncio.subprocess.Process:
    known = {name: value for name, value in os.environ.items() if not name.startswith("KGL_") or name == "KGL_VERSION"}
    return await asyncio.create_subprocess_exec(
        *command(path, *arguments),
        cwd=ROOT,
        env=known,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def compose(path: Path, *arguments: str) -> str:
    process = await started(path, *arguments)
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    return said


def python(service: str, script: str) -> tuple[str, ...]:
    return "run", "--rm", "--no-deps", "-T", "--entrypoint", "python", service, "-c", script


@pytest.mark.timeout(240)
async def test_one_of_three_brokers_is_killed_and_every_event_is_acknowledged_all_the_same(brokers: Path) -> None:
    described = await compose(brokers, *python("setup-kafka", DESCRIBE))
    assert json.loads(described.splitlines()[-1]) == [3, "2"]
    sender = await started(brokers, *python("ingest-worker", SEND))
    assert sender.stdout is not None
    said: list[str] = []
    async for line in sender.stdout:
        said.append(line.decode().strip())
        if said[-1] == "round 10":
            await compose(brokers, "kill", "kafka-2")
    assert await sender.wait() == 0, "\n".join(said)
    # a client that was given up beside the killed broker may still be heard of afterwards
    acked, there = json.loads(next(line for line in said if line.startswith("[")))
    assert acked == ROUNDS * EACH
    assert there >= acked
