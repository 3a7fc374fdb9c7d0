"""An item that two change at the same time."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from kgl_content.domain.items import Item
from kgl_content.testing import ContentKit, content_kit
from kgl_content.use_cases.draft_item import EditItem, RecordGenerated, edit_item, record_generated
from kgl_contracts.ai import Summary
from kgl_servicekit.events.subscription import DONE
from kgl_servicekit.http import Condition
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.postgres import PostgresForTests
from kgl_servicekit.testing.races import overlapping


@pytest.fixture
async def content(postgres: PostgresForTests) -> AsyncIterator[ContentKit]:
    async with content_kit(postgres) as kit:
        yield kit


async def beside_an_edit(content: ContentKit, item: dict[str, Any], later: Any) -> tuple[Item, Any]:
    edit = EditItem(id=UUID(item["id"]), title=None, body="mine", match=Condition())
    return await overlapping(content.database, content.workspace, edit_item, edit, later)


@pytest.mark.parametrize("action", ["edit", "submit"])
async def test_a_change_beside_an_edit_of_the_same_version_is_refused(content: ContentKit, action: str) -> None:
    body = {"title": "Tea", "body": "Tea is grown."}
    made = await content.client.post("/content/v1/items", json=body, headers=content.headers)
    url, headers = f"/content/v1/items/{made.json()['id']}", {**content.headers, "If-Match": made.headers["etag"]}

    async def change() -> httpx.Response:
        if action == "edit":
            return await content.client.patch(url, json={"body": "yours"}, headers=headers)
        return await content.client.post(f"{url}:{action}", headers=headers)

    edited, refused = await beside_an_edit(content, made.json(), change())
    assert (edited.version, edited.body) == (2, "mine")
    assert (refused.status_code, refused.json()["code"]) == (412, "precondition_failed")


async def test_a_module_s_text_beside_an_edit_becomes_the_next_version(content: ContentKit) -> None:
    document = uuid7()
    await content.hear(await content.generated(document, 1, "one"))
    await content.work()
    (item,) = await content.items()
    event = await content.generated(document, 1, "two")
    await content.hear(event)
    command = RecordGenerated(
        document_id=document,
        version=1,
        module=event.module,
        kind=event.kind,
        sha256=event.sha256,
        summary=Summary(title="Title", text="two", sources=()),
    )
    recording = content.database.run(content.workspace, record_generated, command)
    assert (await beside_an_edit(content, item, recording))[1] == DONE
    assert [(each["version"], each["body"]) for each in await content.items()] == [(3, "two")]
