"""Pull and commit over HTTP, on a real database: order, leases, and transactions that stay open."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from kgl_contracts.content import ItemDrafted
from kgl_contracts.envelope import Envelope
from kgl_contracts.operations import ReceiptProgressed
from kgl_contracts.publish import DeliverySucceeded
from kgl_publish.db import feeds
from kgl_publish.testing import CONSUMERS, PublishKit, hear, make, post, publish_kit, pull, show
from kgl_publish.use_cases.announce import announce_progress
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import PostgresForTests


@pytest.fixture
async def publish(postgres: PostgresForTests) -> AsyncIterator[PublishKit]:
    async with publish_kit(postgres) as kit:
        yield kit


async def append(tx: Transaction, named: tuple[str, dict[str, Any]]) -> None:
    """One event in each workspace of the transaction, without a subscription around."""
    kind, data = named
    for workspace in tx.workspaces:
        envelope = Envelope(id=uuid7(), type=kind, source="content", time=datetime.now(UTC), workspace_id=workspace)
        await feeds.append_live(tx, workspace, envelope, data, topic="kgl.content", key="k")


async def test_events_come_in_order_as_cloud_events_until_they_are_committed(publish: PublishKit) -> None:
    assert (await make(publish)).status_code == 201
    item = uuid7()
    await hear(publish, 3, item_id=item)
    pulled = await pull(publish, max=2)
    first, second = pulled["events"]
    assert (first["specversion"], first["type"], first["source"]) == ("1.0", "content.item.published.v1", "content")
    assert (first["subject"], first["topic"], first["workspaceid"]) == (
        str(item),
        "kgl.content",
        str(publish.workspace),
    )
    assert (first["time"], first["data"]["item_id"]) == ("2026-11-23T00:00:00Z", str(item))
    assert first["position"] < second["position"]
    assert "operationid" not in first
    committed = await post(publish, "commit", token=pulled["token"], position=second["position"])
    assert (committed.json()["lag"], committed.json()["leased_until"]) == (1, None)
    last = await pull(publish)
    assert [e["id"] for e in last["events"]] not in ([first["id"]], [second["id"]])
    await post(publish, "commit", token=last["token"], position=last["events"][0]["position"])
    assert await pull(publish) == {"events": [], "token": None, "leased_until": None}


async def test_a_crash_between_pull_and_commit_gives_the_same_events_again(publish: PublishKit) -> None:
    await make(publish)
    await hear(publish, 2)
    lost = await pull(publish, lease_seconds=1)

    async def again() -> list[str]:
        answer = await post(publish, "pull")
        return [event["id"] for event in answer.json()["events"]] if answer.status_code == 200 else []

    assert await eventually(again) == [event["id"] for event in lost["events"]]


async def test_only_the_last_lease_may_commit_and_while_it_runs_nobody_else_pulls(publish: PublishKit) -> None:
    await make(publish)
    await hear(publish, 2)
    first = await pull(publish, lease_seconds=1)
    refused = await post(publish, "pull")
    assert (refused.status_code, refused.json()["code"]) == (409, "consumer_leased")
    assert refused.json()["leased_until"] == first["leased_until"].replace("Z", "+00:00")
    second = await pull(publish, wait_seconds=10)
    late = await post(publish, "commit", token=first["token"], position=first["events"][0]["position"])
    assert (late.status_code, late.json()["code"]) == (409, "lease_over")
    done = await post(publish, "commit", token=second["token"], position=second["events"][1]["position"])
    assert (done.status_code, done.json()["lag"]) == (200, 0)


async def test_a_pull_that_is_given_up_is_free_at_once_and_what_was_handled_stays_so(publish: PublishKit) -> None:
    await make(publish)
    await hear(publish, 3)
    pulled = await pull(publish)
    await post(publish, "commit", token=pulled["token"], position=pulled["events"][0]["position"])
    assert (await post(publish, "pull")).json()["code"] == "consumer_leased"
    await post(publish, "commit", token=pulled["token"], position=pulled["events"][0]["position"], release=True)
    assert [e["id"] for e in (await pull(publish))["events"]] == [e["id"] for e in pulled["events"][1:]]


async def test_a_commit_moves_forward_only_and_not_beyond_what_was_pulled(publish: PublishKit) -> None:
    await make(publish)
    await hear(publish, 3)
    pulled = await pull(publish, max=2)
    one, two = (event["position"] for event in pulled["events"])
    assert (await post(publish, "commit", token=pulled["token"], position=two)).json()["position"] == two
    behind = await post(publish, "commit", token=pulled["token"], position=one)
    assert (behind.status_code, behind.json()["position"]) == (200, two)
    beyond = await post(publish, "commit", token=pulled["token"], position=two + 1)
    assert (beyond.status_code, beyond.json()["code"], beyond.json()["pulled_to"]) == (422, "position_not_pulled", two)


async def test_a_consumer_gets_what_it_wants_and_looks_at_nothing_twice(publish: PublishKit) -> None:
    await make(publish, types=[ItemDrafted.event_type])
    await hear(publish, 3)
    assert (await show(publish))["lag"] == 0
    assert (await pull(publish))["events"] == []
    moved = (await show(publish))["position"]
    assert moved > 0
    await publish.hear(ItemDrafted.example(), name="drafted")
    (event,) = (await pull(publish))["events"]
    assert event["type"] == ItemDrafted.event_type
    assert event["position"] > moved
    wrong = await make(publish, topics=["kgl.content", "kgl.identity"], types=["identity.key.changed.v1"])
    assert wrong.json()["code"] == "event_filter_unknown"
    assert [e["pointer"] for e in wrong.json()["errors"]] == ["#/topics/1", "#/types/0"]
    assert (await make(publish, topics=["kgl.documents"])).status_code == 200
    assert (await show(publish))["topics"] == ["kgl.documents"]


async def test_a_consumer_may_start_at_the_end(publish: PublishKit) -> None:
    await hear(publish, 2)
    await make(publish, start="latest")
    assert (await pull(publish))["events"] == []
    await hear(publish, 1)
    assert len((await pull(publish))["events"]) == 1
    await post(publish, "seek", to="earliest")
    assert len((await pull(publish))["events"]) == 3


async def test_a_pull_waits_for_the_next_event(publish: PublishKit) -> None:
    await make(publish)
    waiting = asyncio.create_task(pull(publish, wait_seconds=20))
    await asyncio.sleep(0)
    await hear(publish, 1)
    assert len((await asyncio.wait_for(waiting, 15))["events"]) == 1


async def test_a_lost_answer_to_a_pull_can_be_asked_for_again(publish: PublishKit) -> None:
    await make(publish)
    await hear(publish, 1)
    headers = {**publish.headers, "Idempotency-Key": "once"}
    one, two = [await publish.client.post(f"{CONSUMERS}/tagger:pull", json={}, headers=headers) for _ in range(2)]
    assert one.json()["token"] is not None
    assert one.content == two.content


async def test_a_transaction_that_stays_open_hides_nothing_behind_later_events(publish: PublishKit) -> None:
    """Numbers of a sequence are not drawn in the order of commits; without the lock the first event is lost."""
    await make(publish)
    drawn, go_on = asyncio.Event(), asyncio.Event()

    async def slow(tx: Transaction, _: None) -> None:
        await append(tx, (ItemDrafted.event_type, {"number": 1}))
        drawn.set()
        await go_on.wait()

    async def is_waiting(tx: Transaction, _: None) -> bool:
        return bool(
            await tx.fetchval("select exists (select from pg_locks where locktype = 'advisory' and not granted)")
        )

    first = asyncio.create_task(publish.database.run(publish.workspace, slow, None))
    await drawn.wait()
    second = asyncio.create_task(
        publish.database.run(publish.workspace, append, (ItemDrafted.event_type, {"number": 2}))
    )
    await eventually(lambda: publish.database.run((), is_waiting, None))
    assert (await pull(publish))["events"] == []
    other = await _in_another_bucket(publish)
    await asyncio.wait_for(publish.database.run(other, append, (ItemDrafted.event_type, {})), 5)
    go_on.set()
    await asyncio.gather(first, second)
    assert [event["data"]["number"] for event in (await pull(publish))["events"]] == [1, 2]


async def _in_another_bucket(publish: PublishKit) -> UUID:
    async def differs(tx: Transaction, other: UUID) -> bool:
        statement = "select hashtext($1) & 63 <> hashtext($2) & 63"
        return bool(await tx.fetchval(statement, str(publish.workspace), str(other)))

    while True:
        other = uuid7()
        if await publish.database.run((), differs, other):
            return other


async def test_batches_of_the_same_workspaces_in_any_order_do_not_wait_for_each_other(publish: PublishKit) -> None:
    retries: list[int] = []
    workspaces = [uuid7() for _ in range(12)]

    async def counted(tx: Transaction, reversed_: bool) -> None:
        retries.append(1)
        for workspace in sorted(workspaces, reverse=reversed_):
            scoped = tx.scoped(tx.cause, (workspace,))
            await append(scoped, (ItemDrafted.event_type, {}))

    await asyncio.gather(*(publish.database.run(workspaces, counted, n % 2 == 0) for n in range(8)))
    assert len(retries) == 8


async def test_a_pull_is_of_a_megabyte_or_so(publish: PublishKit) -> None:
    await make(publish)
    for _ in range(6):
        await publish.database.run(publish.workspace, append, (ItemDrafted.event_type, {"x": "a" * 300_000}))
    assert len((await pull(publish))["events"]) == 4


async def test_internal_events_are_not_shown_and_deliveries_are_told_but_not_delivered(publish: PublishKit) -> None:
    await publish.endpoint("*")
    await make(publish)
    progress = ReceiptProgressed.example()
    envelope = Envelope(id=uuid7(), type=progress.event_type, source="ingest", time=datetime.now(UTC))
    entry = progress.entries[0].model_copy(update={"workspace_id": publish.workspace})
    progress = progress.model_copy(update={"entries": (entry,)})

    async def tell(tx: Transaction, progress: ReceiptProgressed) -> None:
        await announce_progress(tx, envelope, progress)

    await publish.database.run(publish.workspace, tell, progress)
    await publish.hear(DeliverySucceeded.example())
    assert [event["type"] for event in (await pull(publish))["events"]] == [DeliverySucceeded.event_type]
    assert await publish.deliveries() == []


async def test_a_consumer_is_a_resource_of_its_workspace(publish: PublishKit) -> None:
    await make(publish, "b")
    made = await make(publish, "a")
    listed = (await publish.client.get(f"{CONSUMERS}?limit=1", headers=publish.headers)).json()
    assert [c["name"] for c in listed["items"]] == ["a"]
    rest = await publish.client.get(CONSUMERS, params={"cursor": listed["next"]}, headers=publish.headers)
    assert [c["name"] for c in rest.json()["items"]] == ["b"]
    known = {**publish.headers, "If-None-Match": made.headers["etag"]}
    assert (await publish.client.get(f"{CONSUMERS}/a", headers=known)).status_code == 304
    await hear(publish, 1)
    stale = {**publish.headers, "If-Match": made.headers["etag"]}
    assert (await publish.client.delete(f"{CONSUMERS}/a", headers=stale)).status_code == 412
    assert (await publish.client.put(f"{CONSUMERS}/a", json={}, headers=stale)).status_code == 412
    stranger = publish.authority.user(uuid7())
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", ":pull"), ("POST", ":seek"), ("POST", ":commit")):
        body = {":seek": {"to": "latest"}, ":commit": {"token": 1, "position": 0}}.get(path, {})
        content = {"json": body} if method == "POST" else {}
        answer = await publish.client.request(method, f"{CONSUMERS}/a{path}", headers=stranger, **content)
        assert (answer.status_code, answer.json()["code"]) == (404, "consumer_not_found"), (method, path)
    assert (await publish.client.delete(f"{CONSUMERS}/a", headers=publish.headers)).status_code == 204
    assert (await publish.client.delete(f"{CONSUMERS}/a", headers=publish.headers)).status_code == 404
    assert (await post(publish, "pull", "a")).json()["code"] == "consumer_not_found"


async def test_a_workspace_has_a_hundred_consumers_at_most(publish: PublishKit) -> None:
    for number in range(100):
        assert (await make(publish, f"c{number}")).status_code == 201
    assert (await make(publish, "one-more")).json()["code"] == "consumers_too_many"
    assert (await make(publish, "c7", topics=["kgl.graph"])).status_code == 200
