"""The path of a document on real servers, and services that scale and die beneath it."""

import asyncio
from uuid import uuid4

from kgl_client.api import Api
from kgl_servicekit.testing.polling import eventually
from tests.stack.harness import Stack


async def test_a_document_becomes_searchable_text_entities_and_a_draft(stack: Stack) -> None:
    word = f"zephyr{uuid4().hex[:8]}"
    async with stack.client() as client:
        receipt = await stack.upload(client, f"# {word}\n\nThe {word} is grown in **Assam** and sold in London.")
        ended = await stack.ended(client, receipt["id"])
        assert ended["state"] == "done", ended
        document = ended["subject"]
        found = (await client.get("/graph/v1/search", params={"q": word})).json()["hits"]
        assert [hit["document_id"] for hit in found][:1] == [document]
        drafts = (await client.get("/content/v1/items", params={"document_id": document})).json()["items"]
        assert len(drafts) == 1


async def test_three_ingest_workers_share_the_work_and_one_that_is_killed_loses_nothing(stack: Stack) -> None:
    mark = uuid4().hex
    try:
        await stack.compose("up", "--detach", "--wait", "--no-recreate", "--scale", "ingest-worker=3", "ingest-worker")

        async def all_read() -> bool:
            return len(await members(stack)) == 3

        await eventually(all_read, within=60, every=1, what="three workers do not share the partitions")
        async with stack.client() as client:
            texts = [f"# {mark} {number}\n\nNumber {number} of {mark}." for number in range(60)]
            receipts = await asyncio.gather(*(stack.upload(client, text) for text in texts))
            await stack.docker("kill", "--signal", "KILL", stack.container("ingest-worker", 2))
            ended = [await stack.ended(client, receipt["id"], within=180) for receipt in receipts]
        async with Api(stack.url, stack.credentials.api_key) as api:
            listed = [item async for item in api.items("/ingest/v1/documents", limit=200)]
        assert {each["state"] for each in ended} == {"done"}
        mine = [item for item in listed if mark in (item.get("title") or "")]
        assert len(mine) == len({item["id"] for item in mine}) == 60
    finally:
        await stack.compose("up", "--detach", "--wait", "--no-recreate", "--scale", "ingest-worker=1", "ingest-worker")


async def members(stack: Stack) -> set[str]:
    """The members of ingest's group that have partitions, as the broker tells them."""
    script = (
        f"{admin_login(stack)} && /opt/kafka/bin/kafka-consumer-groups.sh --bootstrap-server kafka:9095 "
        "--command-config /tmp/admin --describe --group ingest.operations --members"
    )
    said = await stack.docker("exec", stack.container("kafka"), "sh", "-c", script)
    rows = [line.split() for line in said.splitlines() if line.startswith("ingest.operations")]
    return {row[1] for row in rows if int(row[4]) > 0}


def admin_login(stack: Stack) -> str:
    """A command in the broker's container that leaves its administrator's login in /tmp/admin."""
    password = stack.settings["KGL_KAFKA_ADMIN_PASSWORD"]
    login = (
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config="
        f'org.apache.kafka.common.security.plain.PlainLoginModule required username="admin" password="{password}";'
    )
    return f"echo '{login}' > /tmp/admin"
