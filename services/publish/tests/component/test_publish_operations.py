"""Webhooks about operations that end, for endpoints that asked for them, and the live log of each workspace."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from kgl_contracts.content import ItemPublished
from kgl_contracts.operations import KINDS, OperationEnded, ReceiptProgressed, StageFailure
from kgl_publish.testing import PublishKit, make, publish_kit, pull
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.postgres import PostgresForTests

ENDED = OperationEnded.event_type


@pytest.fixture
async def publish(postgres: PostgresForTests) -> AsyncIterator[PublishKit]:
    async with publish_kit(postgres) as kit:
        yield kit


def ended(**changes: Any) -> OperationEnded:
    return OperationEnded.example().model_copy(update={"operation_id": uuid7(), **changes})


async def live(publish: PublishKit) -> list[tuple[str, str | None]]:
    """What the live log has, and under which topic consumers would find it."""

    async def read(tx: Transaction, _: None) -> list[tuple[str, str | None]]:
        return [(row["type"], row["topic"]) for row in await tx.fetch("select * from live_event order by number")]

    return await publish.database.run(publish.workspace, read, None)


async def test_the_end_of_an_operation_arrives_signed_with_its_summary(publish: PublishKit) -> None:
    endpoint = await publish.endpoint(ENDED)
    event = ended(state="failed", failures=(StageFailure(stage="ingest.parse", error="no_text"),))
    await publish.hear(event)
    await publish.work()
    ((headers, body),) = publish.receiver.requests
    verified = Webhook(endpoint["secret"]).verify(body, headers)
    assert verified["type"] == ENDED
    assert verified["data"] == event.model_dump(mode="json")
    assert (verified["data"]["operation_id"], verified["data"]["kind"]) == (str(event.operation_id), "ingest.document")


async def test_an_endpoint_hears_of_the_kinds_that_it_named_once_each(publish: PublishKit) -> None:
    deletions = await publish.endpoint(f"{ENDED}:ingest.delete")
    both = await publish.endpoint(f"{ENDED}:ingest.document", ENDED)
    everything = await publish.endpoint("*")
    published = await publish.endpoint(ItemPublished.event_type)
    for number, kind in enumerate(("ingest.document", "ingest.delete")):
        for _ in range(2):
            await publish.hear(ended(kind=kind), name=str(number))
    await publish.work()
    got = [(delivery["endpoint_id"], delivery["event_type"]) for delivery in await publish.deliveries()]
    assert {each["id"]: got.count((each["id"], ENDED)) for each in (deletions, both, everything, published)} == {
        deletions["id"]: 1,
        both["id"]: 2,
        everything["id"]: 2,
        published["id"]: 0,
    }
    assert len(publish.receiver.requests) == 5


async def test_a_receiver_that_refuses_is_tried_again_with_the_same_bytes(publish: PublishKit) -> None:
    await publish.endpoint(ENDED)
    publish.receiver.answers = [500, 204]
    await publish.hear(ended())
    await publish.work()
    assert len(publish.receiver.requests) == 2
    assert len({(headers["webhook-id"], body) for headers, body in publish.receiver.requests}) == 1
    assert [delivery["state"] for delivery in await publish.deliveries()] == ["delivered"]


@pytest.mark.parametrize("wrong", [f"{ENDED}:ingest.nothing", f"{ENDED}:", "operations.receipt.progressed.v1"])
async def test_a_kind_that_there_is_not_and_what_stays_between_the_services_are_refused(
    publish: PublishKit, wrong: str
) -> None:
    body = {"url": publish.receiver_url, "event_types": [ENDED, wrong]}
    answer = await publish.client.post("/publish/v1/endpoints", json=body, headers=publish.headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "event_type_unknown")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["#/event_types/1"]


@pytest.mark.parametrize("kind", KINDS)
async def test_progress_and_end_of_every_kind_are_live_and_no_consumer_pulls_them(
    publish: PublishKit, kind: str
) -> None:
    await make(publish)
    operation = uuid7()
    entry = (
        ReceiptProgressed.example()
        .entries[0]
        .model_copy(update={"operation_id": operation, "workspace_id": publish.workspace})
    )
    await publish.hear(ReceiptProgressed(reporter="graph/x/1", entries=(entry,)))
    await publish.hear(ended(kind=kind, operation_id=operation))
    assert await live(publish) == [("operations.receipt.progressed.v1", None), (ENDED, None)]
    assert (await pull(publish))["events"] == []
