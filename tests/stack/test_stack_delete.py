"""A deleted document is gone: its words are nowhere any more, in no database, topic, object, vector or log."""

from uuid import uuid4

from tests.faults.documents_on_stack import StackDocuments
from tests.stack.harness import Stack
from tests.stack.test_stack_main_path import admin_login

# there is always something new on the bus, so it ends by the time; that all was read the deletion itself shows
CONSUME = (
    "timeout 20 /opt/kafka/bin/kafka-console-consumer.sh --bootstrap-server kafka:9095 --consumer.config /tmp/admin"
    " --include 'kgl[.].*' --from-beginning"
    " --property print.headers=true --property print.key=true 2>/dev/null"
)

BUCKET = "/data/kgl-documents"  # what is deleted lies in MinIO's own trash for some minutes more


async def test_the_words_of_a_deleted_document_are_nowhere_any_more(stack: Stack) -> None:
    canary = f"Zyxwvu{uuid4().hex[:12]}"
    text = f"# The {canary} Institute\n\nThe {canary} Institute requires pypdf. Dr {canary} Smith works in Berlin.\n"
    async with stack.client() as client:
        receipt = await stack.upload(client, text, name=f"{canary}.md")
        assert (await stack.ended(client, receipt["id"]))["state"] == "done"
        document = receipt["subject"]
        before = await places(stack, canary)
        assert {"databases", "objects"} <= before, before  # they are looked into
        assert document in {found for found, _ in await StackDocuments(stack, {}).vectors()}
        answer = await client.delete(f"/ingest/v1/documents/{document}")
        assert answer.status_code == 202, answer.text
        assert (await stack.ended(client, answer.json()["id"]))["state"] == "done"
    assert await places(stack, canary) == set()
    assert f'"document_id":"{document}"' in await topics(stack)
    assert document not in {found for found, _ in await StackDocuments(stack, {}).vectors()}


async def places(stack: Stack, word: str) -> set[str]:
    """Where the word is, as text or as bytes."""
    databases = (await stack.docker("exec", stack.container("postgres"), "pg_dumpall", "-U", "postgres")).lower()
    names = (await stack.compose("ps", "--all", "--format", "{{.Name}}")).split()
    logs = [await stack.docker("logs", name) for name in names]
    holding = await stack.docker("exec", stack.container("minio"), "grep", "-rl", word, BUCKET, check=False)
    found = {
        "databases": any(each in databases for each in (word.lower(), word.encode().hex())),
        "objects": BUCKET in holding,
        "topics": word in await topics(stack),
        "logs": any(word in each for each in logs),
    }
    return {place for place, there in found.items() if there}


async def topics(stack: Stack) -> str:
    """All that is on the bus."""
    return await stack.docker("exec", stack.container("kafka"), "sh", "-c", f"{admin_login(stack)}; {CONSUME}; true")
