"""A delivery that is sent once more, whatever has become of the job of its next attempt."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from kgl_contracts.content import ItemPublished
from kgl_publish.jobs.declared import Deliver
from kgl_publish.jobs.deliver import deliver
from kgl_publish.testing import PublishKit, publish_kit
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.jobs.runner import Job
from kgl_servicekit.testing.jobs import claim_work
from kgl_servicekit.testing.orders import jobs_left
from kgl_servicekit.testing.postgres import PostgresForTests


@pytest.fixture
async def publish(postgres: PostgresForTests) -> AsyncIterator[PublishKit]:
    """After the first attempt, the next one is due in an hour."""
    async with publish_kit(postgres, delivery_delays=(3600.0,)) as kit:
        await kit.endpoint()
        await kit.hear(ItemPublished.example())
        yield kit


async def the_delivery(publish: PublishKit) -> dict[str, Any]:
    (delivery,) = await publish.deliveries()
    return delivery


async def redeliver(publish: PublishKit) -> dict[str, Any]:
    url = f"/publish/v1/deliveries/{(await the_delivery(publish))['id']}:redeliver"
    answer = await publish.client.post(url, headers=publish.headers)
    assert answer.status_code == 202, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def change(publish: PublishKit, sql: str) -> None:
    async def run(tx: Transaction, sql: str) -> None:
        assert await tx.execute(sql) == "UPDATE 1"

    await publish.database.run(publish.workspace, run, sql)


async def arrived(publish: PublishKit) -> tuple[str, int, int]:
    """State, attempts and requests, once all is done."""
    await publish.work()
    assert await publish.database.run((), jobs_left, None) == []
    delivery = await the_delivery(publish)
    return delivery["state"], delivery["attempts"], len(publish.receiver.requests)


async def test_the_next_attempt_is_not_waited_for_and_not_made_a_second_time(publish: PublishKit) -> None:
    publish.receiver.answers = [500, 204]
    await publish.work()
    waiting = await the_delivery(publish)
    assert (waiting["state"], waiting["attempts"], waiting["next_at"] is None) == ("pending", 1, False)
    for _ in range(2):
        shown = await redeliver(publish)
        assert (shown["state"], shown["next_at"]) == ("pending", None)
    assert await arrived(publish) == ("delivered", 2, 2)


async def test_a_delivery_whose_job_failed_is_sent_once_more(publish: PublishKit) -> None:
    await change(publish, "update job set state = 'failed', ended_at = now()")
    await redeliver(publish)
    assert await arrived(publish) == ("delivered", 1, 1)


async def test_an_abandoned_delivery_is_sent_once_more(publish: PublishKit) -> None:
    await change(publish, "update endpoint set state = 'disabled'")
    assert await arrived(publish) == ("abandoned", 0, 0)
    await change(publish, "update endpoint set state = 'enabled'")
    await redeliver(publish)
    assert await arrived(publish) == ("delivered", 1, 1)


async def test_a_delivery_whose_endpoint_is_still_gone_is_abandoned_again(publish: PublishKit) -> None:
    await change(publish, "update endpoint set state = 'disabled'")
    assert await arrived(publish) == ("abandoned", 0, 0)
    await redeliver(publish)
    assert await arrived(publish) == ("abandoned", 0, 0)


async def test_an_attempt_that_is_being_made_is_the_one(publish: PublishKit) -> None:
    (claimed,) = await claim_work(publish.database, kind=Deliver.kind)
    await redeliver(publish)
    await deliver(
        Job(publish.database, claimed, Deliver.model_validate(claimed.data), "publish/test"), publish.service.outside
    )
    assert await arrived(publish) == ("delivered", 1, 1)
