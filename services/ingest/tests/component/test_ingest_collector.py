"""Files that nothing refers to go; whatever crashes or comes at the same time, no other file does."""

import asyncio
import hashlib
import os
import time
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from alembic import command

from kgl_ingest.bootstrap import MIGRATIONS
from kgl_ingest.collector import BlobCollector
from kgl_ingest.db import blobs
from kgl_ingest.db.blobs import Doomed
from kgl_ingest.domain.documents import OnDuplicate, chunks_key, file_key
from kgl_ingest.metrics import COLLECTED, COLLECTED_BYTES
from kgl_ingest.testing import Ingest
from kgl_ingest.use_cases.accept_document import AcceptDocument, BlobGone, accept_document
from kgl_servicekit.database import migrations
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.ids import uuid7
from kgl_servicekit.objects.memory import MemoryStore
from kgl_servicekit.operations import Receipt
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import PostgresForTests

DAY, NOW = timedelta(days=1), timedelta(0)


def collector(ingest: Ingest, age: timedelta = NOW, **options: Any) -> BlobCollector:
    return BlobCollector(ingest.database, options.pop("objects", ingest.service.outside.objects), age, **options)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def stored(ingest: Ingest) -> list[str]:
    return [entry.key async for entry in ingest.service.outside.objects.listed("")]


async def rows(ingest: Ingest) -> list[tuple[str, str]]:
    async def read(tx: Transaction, _: None) -> list[asyncpg.Record]:
        return await tx.fetch("select key, state from blob order by key")

    return [tuple(row) for row in await ingest.database.run(ingest.workspace, read, None)]


async def unreferenced(ingest: Ingest, text: str) -> str:
    """Upload and delete a document, without the worker that would erase its file; the file's key."""
    before = set(await stored(ingest))
    receipt = (await ingest.upload(text)).json()
    await ingest.client.delete(f"/ingest/v1/documents/{receipt['subject']}", headers=ingest.headers)
    (key,) = set(await stored(ingest)) - before
    return key


async def test_an_unreferenced_file_goes_with_its_row_and_others_stay(ingest: Ingest) -> None:
    await ingest.upload("kept")
    (kept,) = await stored(ingest)
    await unreferenced(ingest, "gone!")
    counted = [metric.labels("unreferenced")._value.get() for metric in (COLLECTED, COLLECTED_BYTES)]
    assert await collector(ingest).collect() == 1
    assert await stored(ingest) == [kept]
    assert await rows(ingest) == [(kept, "live")]
    assert await collector(ingest).collect() == 0
    after = [metric.labels("unreferenced")._value.get() for metric in (COLLECTED, COLLECTED_BYTES)]
    assert [late - early for late, early in zip(after, counted, strict=True)] == [1, 5]


async def test_a_young_file_stays_even_if_nothing_refers_to_it(ingest: Ingest) -> None:
    key = await unreferenced(ingest, "young")
    assert await collector(ingest, DAY).collect() == 0
    assert await stored(ingest) == [key]


@pytest.mark.parametrize("crashed_after", ["mark", "delete"])
async def test_a_crash_between_the_steps_is_made_good_by_the_next_pass(ingest: Ingest, crashed_after: str) -> None:
    key = await unreferenced(ingest, "half gone")
    crashing = collector(ingest)
    await crashing.mark(ingest.workspace)
    if crashed_after == "delete":
        await crashing.delete(await crashing.marked(ingest.workspace), "unreferenced")
    assert await rows(ingest) == [(key, "deleting")]
    assert await collector(ingest, DAY).collect() == 1
    assert (await stored(ingest), await rows(ingest)) == ([], [])


async def test_a_store_that_is_out_leaves_the_mark_for_later(ingest: Ingest) -> None:
    key = await unreferenced(ingest, "later")
    store = MemoryStore()
    store.out = True
    with pytest.raises(Unavailable):
        await collector(ingest, objects=store).collect()
    assert await rows(ingest) == [(key, "deleting")]
    store.out = False
    assert await collector(ingest, objects=store).collect() == 1
    assert await rows(ingest) == []


async def test_the_loop_collects_both_and_goes_on_after_an_outage(ingest: Ingest) -> None:
    key = await unreferenced(ingest, "looped")
    store = MemoryStore()
    await store.put(file_key(ingest.workspace, sha("never accepted"), 7), b"x")
    store.out = True
    loop = asyncio.create_task(collector(ingest, objects=store).run(0.01, 0.01))

    async def rows_are(expected: list[tuple[str, str]]) -> bool:
        return await rows(ingest) == expected

    async def store_is_empty() -> bool:
        return not store.objects

    try:
        await eventually(lambda: rows_are([(key, "deleting")]))
        store.out = False
        await eventually(lambda: rows_are([]))
        await eventually(store_is_empty)
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


async def test_the_same_content_is_stored_anew_while_its_old_file_is_going(ingest: Ingest) -> None:
    old = await unreferenced(ingest, "again")
    await collector(ingest).mark(ingest.workspace)
    receipt = (await ingest.upload("again")).json()
    (new,) = {key for key, state in await rows(ingest) if state == "live"}
    assert new != old
    await collector(ingest).collect()
    assert await stored(ingest) == [new]
    file = await ingest.client.get(f"/ingest/v1/documents/{receipt['subject']}/file", headers=ingest.headers)
    assert file.content == b"again"


def accepting(ingest: Ingest, text: str, generation: int) -> AcceptDocument:
    """What an upload does that has seen a living file of this generation."""
    return AcceptDocument(
        sha256=sha(text),
        size=len(text),
        generation=generation,
        fresh=False,
        media_type="text/plain",
        charset=None,
        name=None,
        title=None,
        on_duplicate=OnDuplicate.ERROR,
    )


async def test_an_upload_that_locked_the_file_first_keeps_it(ingest: Ingest) -> None:
    key = await unreferenced(ingest, "mine")
    locked, go_on = asyncio.Event(), asyncio.Event()

    async def slow_upload(tx: Transaction, upload: AcceptDocument) -> Receipt:
        receipt = await accept_document(tx, upload)
        locked.set()
        await go_on.wait()
        return receipt

    generation = int(key.rpartition("/")[2])
    uploading = asyncio.create_task(
        ingest.database.run(ingest.workspace, slow_upload, accepting(ingest, "mine", generation))
    )
    await asyncio.wait_for(locked.wait(), 5)
    assert await collector(ingest).collect() == 0
    go_on.set()
    await uploading
    assert await collector(ingest).collect() == 0
    assert await rows(ingest) == [(key, "live")]
    assert await stored(ingest) == [key]


async def test_an_upload_that_comes_while_the_file_is_being_marked_waits_and_stores_anew(ingest: Ingest) -> None:
    old = await unreferenced(ingest, "contended")
    marked, go_on = asyncio.Event(), asyncio.Event()

    async def slow_mark(tx: Transaction, _: None) -> list[Doomed]:
        doomed = await blobs.mark_old(tx, NOW, 10)
        marked.set()
        await go_on.wait()
        return doomed

    async def waits_for_a_lock() -> bool:
        async def read(tx: Transaction, _: None) -> bool:
            sql = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
            return bool(await tx.fetch(sql))

        return await ingest.database.run((), read, None)

    marking = asyncio.create_task(ingest.database.run(ingest.workspace, slow_mark, None))
    await asyncio.wait_for(marked.wait(), 5)
    uploading = asyncio.create_task(ingest.upload("contended"))
    await eventually(waits_for_a_lock)
    go_on.set()
    assert [file.key for file in await marking] == [old]
    assert (await uploading).status_code == 202
    await collector(ingest).collect()
    (new,) = await stored(ingest)
    assert new != old
    assert await rows(ingest) == [(new, "live")]


async def test_a_reference_that_was_made_before_the_lock_is_seen_under_it(ingest: Ingest) -> None:
    """The candidates are from a snapshot that may be older than their locks."""
    await ingest.upload("referenced")

    async def mark(tx: Transaction, _: None) -> list[Doomed]:
        stale = await tx.fetch("select sha256, generation from blob for update")
        assert len(stale) == 1
        return await blobs._mark(tx, stale)

    assert await ingest.database.run(ingest.workspace, mark, None) == []


async def test_a_file_that_is_gone_altogether_is_not_taken_for_living(ingest: Ingest) -> None:
    key = await unreferenced(ingest, "vanished")
    await collector(ingest).collect()
    upload = accepting(ingest, "vanished", int(key.rpartition("/")[2]))
    with pytest.raises(BlobGone):
        await ingest.database.run(ingest.workspace, accept_document, upload)
    assert await rows(ingest) == []


async def test_old_objects_that_no_row_names_go_and_nothing_else_does(ingest: Ingest) -> None:
    objects = ingest.service.outside.objects
    receipt = (await ingest.upload("kept")).json()
    document, other = UUID(receipt["subject"]), uuid7()
    may_still_be_parsed = chunks_key(ingest.workspace, document, 1, sha("x"))
    young = file_key(ingest.workspace, sha("young"), 9)
    orphans = [
        file_key(ingest.workspace, sha("never accepted"), 7),
        file_key(other, sha("of another"), 8),
        chunks_key(ingest.workspace, uuid7(), 1, sha("y")),
    ]
    others = ["graph/results/1", "ingest/no-workspace/1"]
    for key in (*orphans, *others, young, may_still_be_parsed):
        await objects.put(key, b"12345")
    before = await stored(ingest)
    assert await collector(ingest, DAY).collect_orphans() == 0
    for key in before:
        if key != young:
            os.utime(objects._path(key), (time.time() - 100_000,) * 2)
    assert await collector(ingest, DAY, most=2).collect_orphans() == 2
    assert await collector(ingest, DAY).collect_orphans() == 1
    assert set(before) - set(await stored(ingest)) == set(orphans)


async def test_a_deleted_document_that_was_not_parsed_yet_ends_as_superseded(ingest: Ingest) -> None:
    receipt = (await ingest.upload("deleted early")).json()
    await ingest.client.delete(f"/ingest/v1/documents/{receipt['subject']}", headers=ingest.headers)
    await collector(ingest).collect()
    worker = asyncio.create_task(ingest.service.work())

    async def superseded() -> bool:
        shown = (await ingest.client.get(f"/operations/v1/{receipt['id']}", headers=ingest.headers)).json()
        return {stage["state"] for stage in shown["stages"]} == {"superseded"}

    try:
        await eventually(superseded)
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def test_the_migration_takes_over_the_files_of_documents_that_are_there(postgres: PostgresForTests) -> None:
    workspace, document = uuid7(), uuid7()
    async with postgres.database() as roles:
        async with migrations._connect(roles.owner) as connection:
            await connection.run_sync(lambda sync: command.upgrade(migrations._config(MIGRATIONS, sync, ()), "0002"))
            await connection.commit()
        raw = await asyncpg.connect(roles.owner)
        try:
            await raw.execute(
                """insert into document_version (workspace_id, document_id, version, state, media_type, size, sha256,
                                                 object_key, operation_id, created_at)
                   values ($1, $2, 1, 'parsed', 'text/plain', 5, 'abc', $3, $2, now()),
                          ($1, $2, 2, 'parsed', 'text/plain', 5, 'abc', $4, $2, now())""",
                workspace,
                document,
                f"ingest/{workspace}/abc/1",
                f"ingest/{workspace}/abc/2",
            )
            await raw.execute("insert into blob values ($1, 'abc', 1, 'live', 5, now())", workspace)
            await migrations.migrate(MIGRATIONS, roles.owner)
            found = await raw.fetch("select generation, key, state, size from blob order by generation")
        finally:
            await raw.close()
    assert [tuple(row) for row in found] == [
        (1, f"ingest/{workspace}/abc/1", "live", 5),
        (2, f"ingest/{workspace}/abc/2", "live", 5),
    ]
