"""The feed is compared with what content tells, and built anew from it, while both services work on one bus."""

import asyncio
import hashlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

import kgl_content.bootstrap
import kgl_publish.bootstrap
from kgl_content.settings import ContentSettings
from kgl_publish.settings import PublishSettings
from kgl_servicekit.bus.port import Bus
from kgl_servicekit.bus.postgres import PostgresBus, migrate_bus
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.drift.run import look_now
from kgl_servicekit.drift.table import DriftResult
from kgl_servicekit.identity.testing import FakeAuthority
from kgl_servicekit.ids import uuid7
from kgl_servicekit.service import Service
from kgl_servicekit.testing.events import running
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import PostgresForTests

OLD = UUID(int=uuid7().int - (7200_000 << 80))


@dataclass
class System:
    """Content and publish at work, and a third process' worth of publish for rebuilds and looks."""

    publish: Service
    client: httpx.AsyncClient
    headers: dict[str, str]
    workspace: UUID
    another: Callable[[], Service]
    environment: dict[str, str]

    async def release(self, title: str, item: str | None = None) -> str:
        """A new item, or new words for one, as far as readers see it."""
        items = "/content/v1/items"
        if item is None:
            body = {"title": title, "body": f"*{title}* in words"}
            answer = await self.client.post(items, json=body, headers=self.headers)
        else:
            etag = (await self.client.get(f"{items}/{item}", headers=self.headers)).headers["etag"]
            answer = await self.client.patch(
                f"{items}/{item}", json={"title": title}, headers=self.headers | {"If-Match": etag}
            )
        assert answer.status_code < 300, answer.text
        found = str(answer.json()["id"])
        for action in ("submit", "approve", "publish"):
            headers = self.headers | {"If-Match": answer.headers["etag"]}
            answer = await self.client.post(f"{items}/{found}:{action}", headers=headers)
            assert answer.status_code < 300, answer.text
        return found

    async def rows(self) -> list[dict[str, Any]]:
        async def read(tx: Transaction, _: None) -> list[dict[str, Any]]:
            rows = await tx.fetch("select to_jsonb(p) as row from published_item p order by item_id")
            return [row["row"] for row in rows]

        return await self.publish.database.run(self.workspace, read, None)

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

        await self.publish.database.run(self.workspace, write, None)

    async def look(self, *, repair: bool = False) -> DriftResult:
        (result,) = await look_now(self.another(), repair=repair, pause=0.1)
        assert result.error is None
        return result


@pytest.fixture
async def system(postgres: PostgresForTests, tmp_path: Path) -> AsyncIterator[System]:
    async with AsyncExitStack() as stack:
        roles = {
            name: await stack.enter_async_context(postgres.database(migrations))
            for name, migrations in (
                ("bus", None),
                ("content", kgl_content.bootstrap.MIGRATIONS),
                ("publish", kgl_publish.bootstrap.MIGRATIONS),
            )
        }
        await migrate_bus(roles["bus"].owner, roles["bus"].service.partition("//")[2].partition("@")[0])
        common: dict[str, Any] = {"env": "test", "bus_url": "postgresql:///none", "object_dir": tmp_path / "objects"}

        def bus(worker: str) -> Bus:
            return PostgresBus(roles["bus"].service, worker=worker, lease=1.0)

        def publish(worker: str) -> Service:
            settings = PublishSettings(database_url=roles["publish"].service, worker_name=worker, **common)
            return kgl_publish.bootstrap.build(settings, bus(f"publish/{worker}"))

        settings = ContentSettings(database_url=roles["content"].service, worker_name="w", **common)
        authority, workspace = FakeAuthority(), uuid7()
        content = replace(kgl_content.bootstrap.build(settings, bus("content/w")), authority=authority)
        app = content.api()
        await stack.enter_async_context(app.router.lifespan_context(app))
        client = await stack.enter_async_context(
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
        )
        live = publish("w")
        await stack.enter_async_context(running(content.work, live.work))
        numbers = iter(range(100))
        yield System(
            publish=live,
            client=client,
            headers=authority.user(workspace),
            workspace=workspace,
            another=lambda: publish(f"other{next(numbers)}"),
            environment={
                "KGL_ENV": "test",
                "KGL_DATABASE_URL": roles["publish"].service,
                "KGL_BUS_URL": roles["bus"].service,
            },
        )


@pytest.mark.timeout(300)
async def test_a_rebuild_under_traffic_agrees_with_content_and_a_second_one_changes_nothing(system: System) -> None:
    first = await system.release("one")
    await system.release("two")
    await system.shown("one", "two")
    await system.release("one, again", first)  # released twice: its first time is an earlier one
    await system.shown("one, again", "two")
    before = await system.hash()
    assert (await system.another().rebuild("items")).keys == 2
    assert await system.hash() == before

    await system.run("update published_item set title = 'forged' where title = 'two'")
    await system.run("delete from published_item where title = 'one, again'")
    await system.run(
        "insert into published_item select workspace_id, $1, 1, 'ghost', '', '', now(), now() from published_item", OLD
    )
    task = asyncio.create_task(system.another().rebuild("items"))
    await system.release("three")
    await system.release("one, once more", first)
    await task
    await system.release("four")
    await system.shown("one, once more", "two", "three", "four")
    after = await system.hash()
    assert await command(system, "rebuild", "items") == 0
    assert await system.hash() == after
    assert await command(system, "drift") == 0
    assert await command(system, "rebuild", "everything") == 1


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


async def command(system: System, *words: str) -> int:
    """`kgl-publish` in a process of its own; the answer is its exit status."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kgl_publish", *words, env={**os.environ, **system.environment}
    )
    return await process.wait()
