"""The live log is trimmed: what a consumer has not read is lost and counted, and nothing else is."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from kgl_contracts.content import ItemDrafted, ItemPublished
from kgl_publish.testing import PublishKit, hear, make, post, publish_kit, pull, show
from kgl_publish.use_cases.pull_events import Commit, commit_events
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import PostgresForTests


@pytest.fixture
async def publish(postgres: PostgresForTests) -> AsyncIterator[PublishKit]:
    async with publish_kit(postgres) as kit:
        yield kit


async def trim_all(tx: Transaction, _: None) -> None:
    """Let the retention of all that is in the log be over."""
    await tx.execute("update live_event set appended_at = now() - interval '2 hours'")
    await tx.fetchval("select kgl_trim_live(3600)")


async def test_who_is_behind_the_retention_is_told_so_and_goes_on_from_what_is_left(publish: PublishKit) -> None:
    await make(publish, types=[ItemPublished.event_type])
    await make(publish, "drafts", types=[ItemDrafted.event_type])
    await hear(publish, 2)
    await publish.database.run(publish.workspace, trim_all, None)
    await hear(publish, 1)
    gone = await post(publish, "pull")
    assert (gone.status_code, gone.json()["code"], gone.json()["lost"]) == (410, "events_lost", 2)
    assert (await pull(publish, "drafts"))["events"] == []
    assert (await post(publish, "seek", to="earliest")).json()["lost"] == 0
    assert len((await pull(publish))["events"]) == 1


async def test_what_a_consumer_is_handling_is_kept_until_its_lease_is_over_and_counts_as_lost_then(
    publish: PublishKit,
) -> None:
    await make(publish)
    await hear(publish, 2)
    pulled = await pull(publish)
    await publish.database.run(publish.workspace, trim_all, None)
    assert (await show(publish))["lost"] == 0
    committed = await post(publish, "commit", token=pulled["token"], position=pulled["events"][0]["position"])
    assert (committed.status_code, committed.json()["lost"]) == (200, 0)

    async def end_lease(tx: Transaction, _: None) -> None:
        await tx.execute("update event_consumer set leased_until = now()")

    await publish.database.run(publish.workspace, end_lease, None)
    await publish.database.run(publish.workspace, trim_all, None)
    assert (await show(publish))["lost"] == 1


async def test_a_position_that_moves_while_the_log_is_trimmed_loses_nothing(publish: PublishKit) -> None:
    await make(publish)
    await hear(publish, 2)
    pulled = await pull(publish)
    moved, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(tx: Transaction, command: Commit) -> None:
        await commit_events(tx, command)
        moved.set()
        await go_on.wait()

    async def is_waiting(tx: Transaction, _: None) -> bool:
        return bool(await tx.fetchval("select exists (select from pg_locks where not granted)"))

    last = pulled["events"][-1]["position"]
    command = Commit(name="tagger", token=pulled["token"], position=last, lease_seconds=60, release=True)
    committing = asyncio.create_task(publish.database.run(publish.workspace, slowly, command))
    await moved.wait()
    trimming = asyncio.create_task(publish.database.run(publish.workspace, trim_all, None))
    await eventually(lambda: publish.database.run((), is_waiting, None))
    go_on.set()
    await asyncio.gather(committing, trimming)
    assert (await show(publish))["lost"] == 0
