"""A broker that lost its disk in the running system: what the operator does, and that nothing happens twice."""

import asyncio
import os
import sys
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from kgl_servicekit.testing.polling import eventually
from tests.stack.harness import Stack
from tests.stack.watch import answers_at

ROOT = Path(__file__).parents[2]
RELAYS = ("auth", "ingest", "graph", "content", "publish")


async def found(stack: Stack, word: str) -> int:
    async with stack.client() as client:
        answer = await client.get("/graph/v1/search", params={"q": word, "mode": "text", "group": "document"})
    return len(answer.json()["hits"])


async def lost(stack: Stack, service: str) -> float:
    """What the relay of a service says of the bus."""
    said = await stack.docker(
        *("exec", stack.container(f"{service}-worker"), "python", "-c"),
        "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/metrics').read().decode())",
    )
    line = next(line for line in said.splitlines() if line.startswith("kgl_outbox_broker_lost_data{"))
    return float(line.rpartition(" ")[2])


async def kgl(*arguments: str) -> str:
    """The command of the operator, in the folder of the compose files."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kgl_cli.main", *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(os.environ),
    )
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    return said


@pytest.mark.timeout(600)
async def test_a_broker_whose_volume_was_emptied_is_filled_again_and_nothing_happens_twice(stack: Stack) -> None:
    word = f"quill{uuid4().hex[:10]}"
    async with stack.client() as client:
        before = await stack.upload(client, f"# Before\n\nThe {word} was here.")
        assert (await stack.ended(client, before["id"]))["state"] == "done"
        await stack.docker("stop", "--time", "30", stack.container("kafka"))
        meanwhile = await stack.upload(client, f"# Meanwhile\n\nAnother {word}.")  # a command is taken without a bus
        await empty(stack)
        await stack.docker("start", stack.container("kafka"))
        await answers_at(stack, "kafka", 9092, None)
        await stack.compose("run", "--rm", "--no-deps", "setup-kafka")
        await eventually(lambda: is_lost(stack), within=60, every=0.5, what="no relay noticed")
        said = await kgl("refill")
        assert said.count('"event":"refill.done"') == len(RELAYS), said
        for topic in ("kgl.documents", "kgl.operations", "kgl.identity"):
            assert f'"{topic}"' in said
        after = await stack.upload(client, f"# After\n\nOne more {word}.")
        for receipt in (meanwhile, after):
            assert (await stack.ended(client, receipt["id"]))["state"] == "done"
        assert await found(stack, word) == 3
        assert [await drafts(stack, receipt["subject"]) for receipt in (before, meanwhile, after)] == [1, 1, 1]
        stages = (await client.get(f"/operations/v1/{before['id']}")).json()["stages"]
        assert {stage["state"] for stage in stages} <= {"done", "skipped"}, stages
        assert {stage["run"] for stage in stages} == {1}
    for service in RELAYS:
        await eventually(partial(has_all, stack, service), within=30, every=0.5, what=f"the relay of {service} waits")
        assert await held(stack, service) == 0
    again = await kgl("refill")
    assert again.count('"topics":[]') == len(RELAYS), again


async def drafts(stack: Stack, document: str) -> int:
    """What was made of a document: one draft, of its one summary."""
    password = stack.settings["KGL_DB_CONTENT_OWNER_PASSWORD"]
    connection = await stack.connect("kgl_content", "kgl_content_owner", password)
    try:
        count: int = await connection.fetchval("select count(*) from item where document_id = $1", UUID(document))
        return count
    finally:
        await connection.close()


async def is_lost(stack: Stack) -> bool:
    return await lost(stack, "ingest") == 1


async def has_all(stack: Stack, service: str) -> bool:
    """Its relay has looked again, which it does every few seconds, and misses nothing."""
    return await lost(stack, service) == 0


async def empty(stack: Stack) -> None:
    """Take away all that the broker has on its volume."""
    volume = f"{stack.project}_kafka:/var/lib/kafka/data"
    image = "apache/kafka:4.3.1"
    await stack.docker(
        *("run", "--rm", "--user", "0", "--entrypoint", "find", "--volume", volume, image),
        *("/var/lib/kafka/data", "-mindepth", "1", "-delete"),
    )


async def held(stack: Stack, service: str) -> int:
    """Events that a service could not settle."""
    connection = await stack.connect(
        f"kgl_{service}", f"kgl_{service}", stack.settings[f"KGL_DB_{service.upper()}_PASSWORD"]
    )
    try:
        count: int = await connection.fetchval("select count(*) from held_event")
        return count
    finally:
        await connection.close()
