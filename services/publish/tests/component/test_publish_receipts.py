"""Receipts of what publish does: of a publication the feed and each delivery, of a redelivery its end."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from kgl_contracts.content import ItemDrafted, ItemPublished
from kgl_contracts.operations import OperationStarted, Progress, ReceiptProgressed
from kgl_publish.testing import PublishKit, publish_kit
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.modules import told_stages
from kgl_servicekit.testing.postgres import PostgresForTests


@pytest.fixture
async def publish(postgres: PostgresForTests) -> AsyncIterator[PublishKit]:
    async with publish_kit(postgres) as kit:
        yield kit


async def told(publish: PublishKit, operation: UUID) -> list[Progress]:
    """All reports about an operation, in order."""

    async def read(tx: Transaction, _: None) -> list[Progress]:
        rows = await tx.fetch("select data from outbox_log where type = $1 order by id", ReceiptProgressed.event_type)
        return [entry for row in rows for entry in ReceiptProgressed.model_validate_json(row["data"]).entries]

    return [entry for entry in await publish.database.run((), read, None) if entry.operation_id == operation]


async def started(publish: PublishKit) -> list[OperationStarted]:
    async def read(tx: Transaction, _: None) -> list[OperationStarted]:
        rows = await tx.fetch("select data from outbox_log where type = $1 order by id", OperationStarted.event_type)
        return [OperationStarted.model_validate_json(row["data"]) for row in rows]

    return await publish.database.run((), read, None)


async def redeliver(publish: PublishKit, delivery: str) -> UUID:
    """Send it once more; the answer is the operation."""
    answer = await publish.client.post(f"/publish/v1/deliveries/{delivery}:redeliver", headers=publish.headers)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/operations/v1/{answer.json()['operation_id']}"
    return UUID(answer.json()["operation_id"])


async def published(publish: PublishKit, answers: list[int]) -> tuple[UUID, dict[str, Any], str]:
    """An item is published and its delivery tried; its operation, the delivery and the stage of that."""
    operation = uuid7()
    publish.receiver.answers = answers
    await publish.endpoint(ItemPublished.event_type)
    await publish.hear(ItemPublished.example(), operation=operation)
    await publish.work()
    (delivery,) = await publish.deliveries()
    assert delivery["operation_id"] == str(operation)
    return operation, delivery, f"publish.deliver.{delivery['id']}"


async def test_a_publication_is_done_when_the_feed_has_it_and_lists_its_deliveries(publish: PublishKit) -> None:
    operation, _, stage = await published(publish, [500, 204])
    entries = await told(publish, operation)
    assert [(entry.stage, entry.state, entry.attempt, entry.error) for entry in entries] == [
        ("publish.feed", "done", 1, None),
        (stage, "waiting", 1, None),
        (stage, "retrying", 1, "refused"),
        (stage, "done", 2, None),
    ]
    assert entries[2].next_retry_at is not None


async def test_a_publication_without_subscribers_and_one_that_comes_again_are_done(publish: PublishKit) -> None:
    operation = uuid7()
    for _ in range(2):
        await publish.hear(ItemPublished.example(), operation=operation)
    assert await told_stages(publish.database, operation) == {"publish.feed": "done"}


async def test_what_other_operations_cause_on_their_way_is_not_in_their_receipts(publish: PublishKit) -> None:
    operation = uuid7()
    await publish.endpoint("*")
    await publish.hear(ItemDrafted.example(), operation=operation)
    await publish.work()
    assert await told_stages(publish.database, operation) == {"publish.live": "done"}
    assert [delivery["operation_id"] for delivery in await publish.deliveries()] == [None]


async def test_a_redelivery_has_a_receipt_of_its_own_that_ends_with_its_last_attempt(publish: PublishKit) -> None:
    first, delivery, stage = await published(publish, [500])
    assert (await told_stages(publish.database, first))[stage] == "failed"
    publish.receiver.answers = [503]
    again = await redeliver(publish, delivery["id"])
    (operation,) = await started(publish)
    assert (operation.operation_id, operation.kind, operation.subject.type) == (again, "publish.redeliver", "delivery")
    assert [(planned.name, planned.required) for planned in operation.stages] == [(stage, True)]
    assert await told_stages(publish.database, again) == {}
    await publish.work()
    assert [(entry.state, entry.attempt) for entry in await told(publish, again)] == [("failed", 4)]
    publish.receiver.answers = [204]
    last = await redeliver(publish, delivery["id"])
    await publish.work()
    assert await told_stages(publish.database, last) == {stage: "done"}


async def test_who_asked_before_is_told_that_another_receipt_has_taken_over(postgres: PostgresForTests) -> None:
    async with publish_kit(postgres, delivery_delays=(3600.0,)) as publish:
        first, delivery, stage = await published(publish, [500, 204])
        one, two = [await redeliver(publish, delivery["id"]) for _ in range(2)]
        await publish.work()
        ends = [(await told_stages(publish.database, operation))[stage] for operation in (first, one, two)]
        assert ends == ["superseded", "superseded", "done"]
        assert len(publish.receiver.requests) == 2


async def test_a_redelivery_to_an_endpoint_that_is_gone_fails(publish: PublishKit) -> None:
    _, delivery, _ = await published(publish, [410])
    again = await redeliver(publish, delivery["id"])
    await publish.work()
    assert [(entry.state, entry.error) for entry in await told(publish, again)] == [("failed", "endpoint_gone")]
