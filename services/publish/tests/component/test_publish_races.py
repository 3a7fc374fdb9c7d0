"""Consumers and deliveries that two change at the same time."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from kgl_publish.domain.consumers import MOST_CONSUMERS, Consumer
from kgl_publish.testing import CONSUMERS, PublishKit, make, publish_kit, show
from kgl_publish.use_cases.put_consumer import PutConsumer, put_consumer
from kgl_servicekit.http import Condition
from kgl_servicekit.testing.postgres import PostgresForTests
from kgl_servicekit.testing.races import overlapping

TOPIC = "kgl.content"


@pytest.fixture
async def publish(postgres: PostgresForTests) -> AsyncIterator[PublishKit]:
    async with publish_kit(postgres) as kit:
        yield kit


async def beside_a_put(publish: PublishKit, name: str, later: Any) -> tuple[Consumer, bool, httpx.Response]:
    command = PutConsumer(name, (TOPIC,), (), "earliest", Condition())
    (consumer, new), answer = await overlapping(publish.database, publish.workspace, put_consumer, command, later)
    return consumer, new, answer


@pytest.mark.parametrize("verb", ["PUT", "DELETE"])
async def test_of_two_changes_of_the_same_state_of_a_consumer_one_is_refused(publish: PublishKit, verb: str) -> None:
    headers = {**publish.headers, "If-Match": (await make(publish)).headers["etag"]}
    body = {"topics": ["kgl.documents"]} if verb == "PUT" else None
    later = publish.client.request(verb, f"{CONSUMERS}/tagger", json=body, headers=headers)
    changed, _, refused = await beside_a_put(publish, "tagger", later)
    assert (refused.status_code, refused.json()["code"]) == (412, "precondition_failed")
    assert (await show(publish))["topics"] == list(changed.topics) == [TOPIC]


async def test_of_two_creations_of_a_consumer_one_is_new(publish: PublishKit) -> None:
    _, new, second = await beside_a_put(publish, "tagger", make(publish, topics=[TOPIC]))
    assert (new, second.status_code) == (True, 200)


async def test_creations_beside_each_other_keep_to_the_limit(publish: PublishKit) -> None:
    for number in range(MOST_CONSUMERS - 1):
        await make(publish, f"c{number}")
    last, new, refused = await beside_a_put(publish, "last", make(publish, "one-more"))
    assert (last.name, new, refused.status_code) == ("last", True, 409)
