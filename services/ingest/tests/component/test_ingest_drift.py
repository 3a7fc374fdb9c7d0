"""Rows without objects and objects without rows: found, repaired where a file is there, and gone in the next look."""

import os
import time
from uuid import UUID

import pytest

from kgl_ingest.domain.documents import file_key
from kgl_ingest.drift import drift_checks
from kgl_ingest.testing import Ingest
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.drift.run import run_check
from kgl_servicekit.drift.table import DriftResult, examine_drift
from kgl_servicekit.jobs.runner import JobRunner


async def work(ingest: Ingest) -> None:
    await JobRunner(ingest.database, ingest.service.jobs, ingest.service.outside, worker="test").work_off()


async def look(ingest: Ingest, *, repair: bool = False) -> dict[str, DriftResult]:
    """What was found, by check; those that are well are left out."""
    checks = drift_checks(ingest.database, ingest.service.outside.objects, ingest.service.settings)  # type: ignore[arg-type]
    results = [await run_check(ingest.database, check, repair=repair, pause=0) for check in checks]
    assert [(result.check, result.error) for result in results] == [("ingest.files", None), ("ingest.objects", None)]
    return {result.check: result for result in results if result.items}


async def keys(ingest: Ingest, document: str) -> dict[str, str]:
    async def read(tx: Transaction, _: None) -> dict[str, str]:
        sql = "select object_key, chunks_object, text_object from document_version where document_id = $1"
        row = await tx.fetchrow(sql, UUID(document))
        assert row is not None
        return dict(row)

    return await ingest.database.run(ingest.workspace, read, None)


@pytest.mark.parametrize("lost", ["chunks_object", "text_object"])
async def test_what_parsing_made_and_is_lost_is_made_again_from_the_file(ingest: Ingest, lost: str) -> None:
    document = (await ingest.upload("# Tea\n\nwords")).json()["subject"]
    await ingest.upload("others")
    assert await look(ingest) == {}  # what is not parsed yet has no text to miss
    await work(ingest)
    assert await look(ingest) == {}
    objects, key = ingest.service.outside.objects, (await keys(ingest, document))[lost]
    await objects.delete(key)
    (found,) = (await look(ingest)).values()
    assert (found.check, found.items, found.repaired, found.well) == ("ingest.files", 1, 0, False)
    assert found.examples == (f"{ingest.workspace}/{document}/1: its text or chunks are missing",)
    (mended,) = (await look(ingest, repair=True)).values()
    assert (mended.items, mended.repaired, mended.well) == (1, 1, True)
    await look(ingest, repair=True)
    await work(ingest)
    assert await objects.stat(key) is not None
    assert await look(ingest) == {}


async def test_a_file_that_is_lost_is_told_of_and_nothing_can_be_done(ingest: Ingest) -> None:
    document = (await ingest.upload("words")).json()["subject"]
    await work(ingest)
    await ingest.service.outside.objects.delete((await keys(ingest, document))["object_key"])
    (found,) = (await look(ingest, repair=True)).values()
    assert (found.items, found.repaired, found.well) == (1, 0, False)
    assert "its file is missing" in found.examples[0]
    by_hand = {check.name: check.by_hand for check in ingest.service.drift_checks}
    (told,) = await ingest.database.run((), examine_drift, by_hand)
    assert told.todo == "put the lost file back under its key, from a copy of the object store, or delete the document"
    await ingest.client.delete(f"/ingest/v1/documents/{document}", headers=ingest.headers)
    assert await look(ingest) == {}


async def test_an_object_that_no_row_names_is_found_when_the_collector_had_its_time(ingest: Ingest) -> None:
    await ingest.upload("words")
    objects, key = ingest.service.outside.objects, file_key(ingest.workspace, "0" * 64, 7)
    await objects.put(key, b"x")
    assert await look(ingest) == {}
    path = ingest.service.settings.object_dir / key  # type: ignore[operator]
    old = time.time() - 5 * 86400
    os.utime(path, (old, old))
    (found,) = (await look(ingest, repair=True)).values()
    assert (found.check, found.items, found.repaired) == ("ingest.objects", 1, 1)
    assert await objects.stat(key) is None
    assert await look(ingest) == {}
