"""The feed is compared with what content tells, and built anew from it, while both services work on one bus."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import kgl_content.bootstrap
import kgl_publish.bootstrap
from kgl_content.settings import ContentSettings
from kgl_publish.settings import PublishSettings
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.drift.run import look_now
from kgl_servicekit.drift.table import DriftResult
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import PostgresForTests
from tests.system.pair import Pair, Side, pair

OLD = UUID(int=uuid7().int - (7200_000 << 80))


@dataclass
class System:
    """Content and publish at work."""

    pair: Pair

    async def release(self, title: str, item: str | None = None) -> str:
        """A new item, or new words for one, as far as readers see it."""
        items = "/content/v1/items"
        if item is None:
            body = {"title": title, "body": f"*{title}* in words"}
            answer = await self.pair.client.post(items, json=body, headers=self.pair.headers)
        else:
            etag = (await self.pair.client.get(f"{items}/{item}", headers=self.pair.headers)).headers["etag"]
            answer = await self.pair.client.patch(
                f"{items}/{item}", json={"title": title}, headers=self.pair.headers | {"If-Match": etag}
            )
        assert answer.status_code < 300, answer.text
        found = str(answer.json()["id"])
        for action in ("submit", "approve", "publish"):
            headers = self.pair.headers | {"If-Match": answer.headers["etag"]}
            answer = await self.pair.client.post(f"{items}/{found}:{action}", headers=headers)
            assert answer.status_code < 300, answer.text
        return found

    async def rows(self) -> list[dict[str, Any]]:
        async def read(tx: Transaction, _: None) -> list[dict[str, Any]]:
            rows = await tx.fetch("select to_jsonb(p) as row from published_item p order by item_id")
            return [row["row"] for row in rows]

        return await self.pair.derived.database.run(self.pair.workspace, read, None)

    async def titles(self) -> set[str]:
        return {row["title"] for row in await self.rows()}

    async def hash(self) -> str:
        return hashlib.sha256(repr(await self.rows()).encode()).hexdigest()

    async def shown(self, *titles: str) -> None:
        """Until the feed shows just these."""

        async def so() -> bool:
            return await self.titles() == set(titles)

        await eventually(so, within=30)

    async def run(self, sql: str, *args: Any) -> None:
        async def write(tx: Transaction, _: None) -> None:
            await tx.execute(sql, *args)

        await self.pair.derived.database.run(self.pair.workspace, write, None)

    async def look(self, *, repair: bool = False) -> DriftResult:
        (result,) = await look_now(self.pair.another(), repair=repair, pause=0.1)
        assert result.error is None
        return result


@pytest.fixture
async def system(postgres: PostgresForTests, tmp_path: Path) -> AsyncIterator[System]:
    source = Side(kgl_content.bootstrap, ContentSettings)
    async with pair(postgres, tmp_path, source, Side(kgl_publish.bootstrap, PublishSettings)) as made:
        yield System(made)


@pytest.mark.timeout(300)
async def test_a_rebuild_under_traffic_agrees_with_content_and_a_second_one_changes_nothing(system: System) -> None:
    first = await system.release("one")
    await system.release("two")
    await system.shown("one", "two")
    await system.release("one, again", first)  # released twice: its first time is an earlier one
    await system.shown("one, again", "two")
    before = await system.hash()
    assert (await system.pair.another().rebuild("items")).keys == 2
    assert await system.hash() == before

    await system.run("update published_item set title = 'forged' where title = 'two'")
    await system.run("delete from published_item where title = 'one, again'")
    await system.run(
        "insert into published_item select workspace_id, $1, 1, 'ghost', '', '', now(), now() from published_item", OLD
    )
    task = asyncio.create_task(system.pair.another().rebuild("items"))
    await system.release("three")
    await system.release("one, once more", first)
    await task
    await system.release("four")
    await system.shown("one, once more", "two", "three", "four")
    after = await system.hash()
    assert await system.pair.command("rebuild", "items") == 0
    assert await system.hash() == after
    assert await system.pair.command("drift") == 0
    assert await system.pair.command("rebuild", "everything") == 1


@pytest.mark.timeout(300)
async def test_drift_of_the_feed_is_found_repaired_and_gone_and_traffic_is_none(system: System) -> None:
    first = await system.release("one")
    await system.release("two")
    await system.shown("one", "two")
    before = await system.hash()
    await system.run("update published_item set title = 'forged' where title = 'two'")
    await system.run("delete from published_item where title = 'one'")
    await system.run(
        "insert into published_item select workspace_id, $1, 1, 'ghost', '', '', now(), now() from published_item", OLD
    )
    found = await system.look()
    states = sorted(example.partition(": ")[2] for example in found.examples)
    assert states == ["its source does not know it", "version 1 is not shown", "version 1 is shown otherwise"]
    assert (await system.look(repair=True)).repaired == 3
    assert (await system.look()).items == 0
    assert await system.hash() == before

    task = asyncio.create_task(system.look())
    for number in range(5):
        await system.release(f"under way {number}")
        await system.release(f"one, change {number}", first)
    assert (await task).items == 0
