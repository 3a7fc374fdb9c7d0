"""Items from draft to publication, by hand and from modules, on a real database."""

from collections.abc import AsyncIterator
from itertools import permutations
from typing import Any

import httpx
import pytest

from kgl_content.domain.items import TRANSITIONS, IllegalTransition, after, excerpt
from kgl_content.testing import ContentKit, content_kit
from kgl_contracts.ingest import DocumentDeleted
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import SUPERSEDED
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.modules import told_removed, told_stages
from kgl_servicekit.testing.orders import call_back, jobs_left
from kgl_servicekit.testing.postgres import PostgresForTests

ACTIONS = ["submit", "approve", "reject", "publish", "edit"]


@pytest.fixture
async def content(postgres: PostgresForTests) -> AsyncIterator[ContentKit]:
    async with content_kit(postgres) as kit:
        yield kit


async def draft(content: ContentKit, **changes: Any) -> httpx.Response:
    body = {"title": "Tea", "body": "Tea is **grown** in [Assam](https://example.com).", **changes}
    return await content.client.post("/content/v1/items", json=body, headers=content.headers)


async def move(content: ContentKit, item: httpx.Response, action: str, **options: Any) -> httpx.Response:
    headers = {**content.headers, "If-Match": item.headers["etag"], **options.pop("headers", {})}
    return await content.client.post(f"/content/v1/items/{item.json()['id']}:{action}", headers=headers, **options)


async def job_errors(content: ContentKit) -> dict[str, str]:
    """How jobs ended, by what was wrong with them."""

    async def read(tx: Transaction, _: None) -> dict[str, str]:
        return {row["error_code"]: row["state"] for row in await tx.fetch("select error_code, state from job")}

    return await content.database.run((), read, None)


async def emitted(content: ContentKit) -> list[str]:
    async def read(tx: Transaction, _: None) -> list[str]:
        rows = await tx.fetch("select type from outbox_log where topic = 'kgl.content' order by id")
        return [row["type"].split(".")[2] for row in rows]

    return await content.database.run((), read, None)


def test_every_pair_of_state_and_action_is_allowed_or_refused_with_what_is_allowed() -> None:
    for state in ("draft", "submitted", "approved", "rejected", "published"):
        for action in ACTIONS:
            if (state, action) in TRANSITIONS:
                assert after(state, action) == TRANSITIONS[state, action]  # type: ignore[arg-type]
            else:
                with pytest.raises(IllegalTransition) as refused:
                    after(state, action)  # type: ignore[arg-type]
                assert refused.value.extension()["state"] == state


def test_an_excerpt_is_plain_words() -> None:
    assert excerpt("# Tea\n\n**is** [grown](https://x.y) ![img](z) <b>here</b>") == "Tea is grown here"
    assert len(excerpt("word " * 1000)) <= 2000


async def test_an_item_goes_from_draft_to_publication_and_each_step_is_told(content: ContentKit) -> None:
    item = await draft(content)
    steps = (("submit", 200, "submitted"), ("approve", 200, "approved"), ("publish", 202, "published"))
    for action, status, state in steps:
        item = await move(content, item, action)
        assert (item.status_code, item.json()["state"]) == (status, state)
    assert item.json()["published_version"] == 1
    assert await emitted(content) == ["drafted", "submitted", "approved", "published"]


async def test_publishing_has_a_receipt_that_what_other_services_do_belongs_to(content: ContentKit) -> None:
    item = await draft(content)
    refused = await move(content, item, "publish")
    assert refused.status_code == 409
    for action in ("submit", "approve", "publish"):
        item = await move(content, item, action)

    async def read(tx: Transaction, _: None) -> list[tuple[str, str | None]]:
        rows = await tx.fetch("select type, operation_id::text from outbox_log order by id")
        return [(row["type"], row["operation_id"]) for row in rows]

    operation = item.json()["operation_id"]
    assert item.headers["location"] == f"/operations/v1/{operation}"
    told = await content.database.run((), read, None)
    assert [each for each in told if each[1] is not None] == [
        ("operations.operation.started.v2", operation),
        ("content.item.published.v1", operation),
    ]
    shown = await content.client.get(f"/content/v1/items/{item.json()['id']}", headers=content.headers)
    assert shown.headers["etag"] == item.headers["etag"]
    assert "operation_id" not in shown.json()


async def test_a_rejected_item_is_edited_and_comes_back_as_a_new_version(content: ContentKit) -> None:
    item = await move(content, await draft(content), "submit")
    rejected = await move(content, item, "reject", json={"reason": "too short"})
    assert rejected.json()["state"] == "rejected"
    edited = await content.client.patch(
        f"/content/v1/items/{item.json()['id']}",
        json={"body": "longer"},
        headers={**content.headers, "If-Match": rejected.headers["etag"]},
    )
    assert (edited.json()["state"], edited.json()["version"], edited.json()["title"]) == ("draft", 2, "Tea")
    versions = await content.client.get(f"/content/v1/items/{item.json()['id']}/versions", headers=content.headers)
    assert [(v["version"], v["decision"], v["reason"]) for v in versions.json()["items"]] == [
        (2, None, None),
        (1, "rejected", "too short"),
    ]


async def test_a_change_needs_the_tag_of_the_present_state(content: ContentKit) -> None:
    item = await draft(content)
    url = f"/content/v1/items/{item.json()['id']}"
    assert (await content.client.post(f"{url}:submit", headers=content.headers)).status_code == 428
    assert (await content.client.patch(url, json={"title": "x"}, headers=content.headers)).status_code == 428
    await move(content, item, "submit")
    assert (await move(content, item, "submit")).status_code == 412
    known = await content.client.get(url, headers={**content.headers, "If-None-Match": item.headers["etag"]})
    assert known.status_code == 200
    again = await content.client.get(url, headers={**content.headers, "If-None-Match": known.headers["etag"]})
    assert again.status_code == 304


async def test_what_the_state_does_not_allow_is_refused_with_what_it_does(content: ContentKit) -> None:
    refused = await move(content, await draft(content), "publish")
    assert (refused.status_code, refused.json()["code"]) == (409, "illegal_transition")
    assert refused.json()["allowed"] == ["edit", "submit"]


async def test_each_step_needs_its_permission(content: ContentKit) -> None:
    item = await move(content, await draft(content), "submit")
    writer = content.authority.user(content.workspace, "content:read", "content:write")
    for action in ("approve", "publish"):
        refused = await move(content, item, action, headers=writer)
        assert refused.status_code == 403


async def test_an_author_does_not_review_himself_where_that_is_off(postgres: PostgresForTests) -> None:
    async with content_kit(postgres, self_review=False) as content:
        item = await move(content, await draft(content), "submit")
        refused = await move(content, item, "approve")
        assert (refused.status_code, refused.json()["code"]) == (403, "own_version")
        reviewer = content.authority.user(content.workspace)
        assert (await move(content, item, "approve", headers=reviewer)).status_code == 200


async def test_the_same_generated_text_twice_is_one_draft_and_another_text_a_new_version(content: ContentKit) -> None:
    document = uuid7()
    for text in ("one", "one", "two"):
        await content.hear(await content.generated(document, 1, text))
        await content.work()
    (item,) = await content.items()
    assert (item["version"], item["body"], item["author"]) == (2, "two", "module:reader")


async def test_the_last_of_two_texts_wins_although_the_older_one_is_drafted_last(content: ContentKit) -> None:
    document = uuid7()
    for text in ("older", "newer"):
        await content.hear(await content.generated(document, 1, text))

    async def put_off_the_older(tx: Transaction, _: None) -> None:
        await tx.execute(
            """update job set run_at = now() + interval '1 hour'
               where data ->> 'sha256' <> (select sha256 from last_result)"""
        )

    await content.database.run(content.workspace, put_off_the_older, None)
    await content.work()
    await content.database.run((), call_back, None)
    await content.work()
    assert await content.database.run((), jobs_left, None) == []
    assert [(item["version"], item["body"]) for item in await content.items()] == [(1, "newer")]


async def test_a_version_under_review_is_not_replaced_by_a_module(content: ContentKit) -> None:
    document = uuid7()
    await content.hear(await content.generated(document, 1, "one"))
    await content.work()
    (item,) = await content.items()
    shown = await content.client.get(f"/content/v1/items/{item['id']}", headers=content.headers)
    await move(content, shown, "submit")
    await content.hear(await content.generated(document, 1, "two"))
    await content.work()
    assert [(i["body"], i["state"]) for i in await content.items()] == [("one", "submitted")]


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_a_deleted_document_leaves_no_draft_in_any_order(content: ContentKit, order: tuple[int, ...]) -> None:
    document = uuid7()
    events = [
        await content.generated(document, 1, "one"),
        await content.generated(document, 2, "two"),
        DocumentDeleted(document_id=document, version=2),
    ]
    for number in order:
        await content.hear(events[number])
        await content.work()
    assert await content.items() == []
    assert await content.hear(await content.generated(document, 3, "late")) == SUPERSEDED


async def test_a_published_item_outlives_its_document_without_a_link(content: ContentKit) -> None:
    document = uuid7()
    await content.hear(await content.generated(document, 1, "one"))
    await content.work()
    (item,) = await content.items()
    shown = await content.client.get(f"/content/v1/items/{item['id']}", headers=content.headers)
    for action in ("submit", "approve", "publish"):
        shown = await move(content, shown, action)
    await content.hear(DocumentDeleted(document_id=document, version=1))
    (left,) = await content.items()
    assert (left["state"], left["document_id"]) == ("published", None)


async def test_a_draft_by_hand_about_a_deleted_document_is_refused(content: ContentKit) -> None:
    document = uuid7()
    assert (await draft(content, document_id=str(document))).status_code == 201
    await content.hear(DocumentDeleted(document_id=document, version=1))
    refused = await draft(content, document_id=str(document))
    assert (refused.status_code, refused.json()["code"]) == (409, "document_gone")
    assert await content.items() == []


async def test_a_damaged_or_missing_text_fails_the_job_with_a_code(content: ContentKit) -> None:
    missing, damaged = await content.generated(uuid7(), 1, "one"), await content.generated(uuid7(), 1, "one")
    await content.objects.delete(missing.result_object)
    await content.hear(missing)
    await content.hear(damaged.model_copy(update={"sha256": "0" * 64}))
    await content.work()
    assert await job_errors(content) == {"result_damaged": "failed", "result_missing": "queued"}


async def test_a_text_of_another_workspace_document_or_version_is_not_read_for_this_one(content: ContentKit) -> None:
    here, elsewhere = uuid7(), uuid7()
    event = await content.generated(here, 1, "one")
    strange = [
        await content.generated(document, version, "secret") for document, version in ((elsewhere, 1), (here, 2))
    ]
    moved = event.result_object.replace(str(content.workspace), str(uuid7()))
    await content.objects.put(moved, content.objects.objects[strange[0].result_object])
    for key in (moved, *(other.result_object for other in strange)):
        await content.hear(event.model_copy(update={"result_object": key, "sha256": strange[0].sha256}))
        await content.work()
        assert await job_errors(content) == {"foreign_object": "failed"}
        assert await content.items() == []


async def test_a_text_that_went_with_its_document_is_superseded(content: ContentKit) -> None:
    event, operation = await content.generated(uuid7(), 1, "one"), uuid7()
    await content.hear(event, operation=operation)
    await content.objects.delete(event.result_object)
    await content.work()
    assert (await told_stages(content.database, operation))["content.draft.reader"] == "retrying"
    await content.hear(DocumentDeleted(document_id=event.document_id, version=1))
    await content.database.run((), call_back, None)
    await content.work()
    assert (await told_stages(content.database, operation))["content.draft.reader"] == "superseded"


async def test_the_receipt_of_a_deletion_tells_what_content_removed(content: ContentKit) -> None:
    document, operation = uuid7(), uuid7()
    await content.hear(await content.generated(document, 1, "one"))
    await content.work()
    await content.hear(DocumentDeleted(document_id=document, version=1), operation=operation)
    assert await told_removed(content.database, operation) == {"drafts": 1, "links": 0}


async def test_another_workspace_sees_and_changes_nothing(content: ContentKit) -> None:
    item = await draft(content)
    other = content.authority.user(uuid7())
    url = f"/content/v1/items/{item.json()['id']}"
    assert (await content.client.get(url, headers=other)).status_code == 404
    assert (await move(content, item, "submit", headers=other)).status_code == 404
    assert (await content.client.get("/content/v1/items", headers=other)).json()["items"] == []
