"""Webhooks, feed and live updates, on a real database and against a real receiver."""

from collections.abc import AsyncIterator
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from standardwebhooks.webhooks import Webhook

from kgl_contracts.content import ItemDrafted, ItemPublished
from kgl_publish.jobs.declared import Deliver
from kgl_publish.jobs.deliver import deliver
from kgl_publish.testing import PublishKit, publish_kit
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.ids import uuid7
from kgl_servicekit.jobs.runner import Job
from kgl_servicekit.testing.jobs import claim_work
from kgl_servicekit.testing.postgres import PostgresForTests

ATOM = {"a": "http://www.w3.org/2005/Atom"}


@pytest.fixture
async def publish(postgres: PostgresForTests) -> AsyncIterator[PublishKit]:
    async with publish_kit(postgres) as kit:
        yield kit


def published(**changes: Any) -> ItemPublished:
    return ItemPublished.example().model_copy(update={"item_id": uuid7(), **changes})


async def test_a_published_item_arrives_signed_and_its_delivery_is_logged(publish: PublishKit) -> None:
    endpoint = await publish.endpoint(ItemPublished.event_type)
    event = published(title="Tea")
    await publish.hear(event)
    await publish.work()
    ((headers, body),) = publish.receiver.requests
    verified = Webhook(endpoint["secret"]).verify(body, headers)
    assert (verified["type"], verified["data"]["title"]) == ("content.item.published.v1", "Tea")
    (delivery,) = await publish.deliveries()
    assert (delivery["state"], delivery["status"], delivery["webhook_id"]) == ("delivered", 204, headers["webhook-id"])
    log = (await publish.client.get(f"/publish/v1/deliveries/{delivery['id']}", headers=publish.headers)).json()["log"]
    assert [(a["number"], a["outcome"]) for a in log] == [(1, "delivered")]


async def test_only_wanted_types_are_delivered_and_the_same_event_once(publish: PublishKit) -> None:
    await publish.endpoint(ItemPublished.event_type)
    event = published()
    for _ in range(3):
        await publish.hear(event)
    await publish.hear(ItemDrafted.example(), name="other")
    await publish.work()
    assert len(publish.receiver.requests) == 1


async def test_a_retry_has_the_same_id_and_the_same_bytes(publish: PublishKit) -> None:
    await publish.endpoint()
    publish.receiver.answers = [500, 503, 200]
    await publish.hear(published())
    await publish.work()
    assert len({(headers["webhook-id"], body) for headers, body in publish.receiver.requests}) == 1
    (delivery,) = await publish.deliveries()
    assert (delivery["state"], delivery["attempts"]) == ("delivered", 3)


async def test_a_delivery_is_given_up_after_its_attempts_and_can_be_sent_once_more(publish: PublishKit) -> None:
    await publish.endpoint()
    publish.receiver.answers = [500]
    await publish.hear(published())
    await publish.work()
    (delivery,) = await publish.deliveries()
    assert (delivery["state"], delivery["attempts"], delivery["status"]) == ("failed", 3, 500)
    publish.receiver.answers = [200]
    again = await publish.client.post(f"/publish/v1/deliveries/{delivery['id']}:redeliver", headers=publish.headers)
    assert again.status_code == 202
    await publish.work()
    (delivery,) = await publish.deliveries()
    assert (delivery["state"], delivery["attempts"]) == ("delivered", 4)


async def test_a_receiver_that_is_gone_gets_nothing_more(publish: PublishKit) -> None:
    endpoint = await publish.endpoint()
    publish.receiver.answers = [410]
    await publish.hear(published())
    await publish.work()
    await publish.hear(published(), name="2")
    await publish.work()
    assert len(publish.receiver.requests) == 1
    shown = await publish.client.get(f"/publish/v1/endpoints/{endpoint['id']}", headers=publish.headers)
    assert shown.json()["state"] == "disabled"
    assert "secret" not in shown.json()


async def test_a_removed_endpoint_abandons_its_deliveries(publish: PublishKit) -> None:
    endpoint = await publish.endpoint()
    await publish.hear(published())
    url = f"/publish/v1/endpoints/{endpoint['id']}"
    assert (await publish.client.delete(url, headers=publish.headers)).status_code == 204
    await publish.work()
    assert publish.receiver.requests == []
    assert [d["state"] for d in await publish.deliveries()] == ["abandoned"]
    assert (await publish.client.delete(url, headers=publish.headers)).status_code == 404


async def test_a_crash_between_sending_and_recording_sends_again_with_the_same_id(publish: PublishKit) -> None:
    await publish.endpoint()
    await publish.hear(published())

    async def take(tx: Transaction, _: None) -> None:
        await tx.execute("update job set token = token + 1 where kind = $1", Deliver.kind)

    async def give_back(tx: Transaction, _: None) -> None:
        await tx.execute("update job set state = 'queued' where kind = $1", Deliver.kind)

    (claimed,) = await claim_work(publish.database, kind=Deliver.kind, holder="dying")
    await publish.database.run((), take, None)  # as if its lease had ended while it was sending
    job = Job(publish.database, claimed, Deliver.model_validate(claimed.data), "publish/test")
    with pytest.raises(Exception, match="no longer ours"):
        await deliver(job, publish.service.outside)
    await publish.database.run((), give_back, None)
    await publish.work()
    ids = [headers["webhook-id"] for headers, _ in publish.receiver.requests]
    assert len(ids) == 2
    assert len(set(ids)) == 1
    assert [d["state"] for d in await publish.deliveries()] == ["delivered"]


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:9/x", "http://localhost/x", "http://10.0.0.1/", "ftp://example.com/", "http://a@b/", "nonsense"],
)
async def test_an_endpoint_that_may_not_be_reached_is_refused(publish: PublishKit, url: str) -> None:
    body = {"url": url, "event_types": ["*"]}
    answer = await publish.client.post("/publish/v1/endpoints", json=body, headers=publish.headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "endpoint_refused")


async def test_an_unknown_event_type_is_refused_by_name(publish: PublishKit) -> None:
    body = {"url": publish.receiver_url, "event_types": ["identity.key.changed.v1"]}
    answer = await publish.client.post("/publish/v1/endpoints", json=body, headers=publish.headers)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/event_types/0")


async def test_the_feed_shows_the_newest_version_of_each_item_escaped(publish: PublishKit) -> None:
    item = uuid7()
    for version, title in ((2, "New <b>&"), (1, "Old")):
        await publish.hear(published(item_id=item, version=version, title=title), name=str(version))
    answer = await publish.client.get("/publish/v1/feed.atom", headers=publish.headers)
    assert answer.headers["content-type"] == "application/atom+xml"
    feed = ET.fromstring(answer.content)
    assert [e.findtext("a:title", namespaces=ATOM) for e in feed.findall("a:entry", ATOM)] == ["New <b>&"]
    known = {**publish.headers, "If-None-Match": answer.headers["etag"]}
    assert (await publish.client.get("/publish/v1/feed.atom", headers=known)).status_code == 304


async def test_another_workspace_sees_nothing(publish: PublishKit) -> None:
    endpoint = await publish.endpoint()
    await publish.hear(published())
    other = publish.authority.user(uuid7())
    assert (await publish.client.get("/publish/v1/deliveries", headers=other)).json()["items"] == []
    assert (await publish.client.get(f"/publish/v1/endpoints/{endpoint['id']}", headers=other)).status_code == 404
    feed = ET.fromstring((await publish.client.get("/publish/v1/feed.atom", headers=other)).content)
    assert feed.findall("a:entry", ATOM) == []
