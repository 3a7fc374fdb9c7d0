"""Operations that are cancelled before their document is parsed."""

import asyncio
from typing import Any

from kgl_ingest.testing import Ingest
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.polling import eventually


async def receipt_in(ingest: Ingest, operation: str, state: str) -> dict[str, Any] | None:
    found: dict[str, Any] = (await ingest.client.get(f"/operations/v1/{operation}", headers=ingest.headers)).json()
    return found if found.get("state") == state else None


async def stage_done(ingest: Ingest, operation: str, name: str) -> bool:
    receipt = (await ingest.client.get(f"/operations/v1/{operation}", headers=ingest.headers)).json()
    return any(stage["name"] == name and stage["state"] == "done" for stage in receipt["stages"])


async def test_a_cancelled_operation_ends_with_all_its_stages_and_its_document_is_never_parsed(ingest: Ingest) -> None:
    receipt = (await ingest.upload("never mind")).json()
    cancelled = await ingest.client.post(f"/operations/v1/{receipt['id']}:cancel", headers=ingest.headers)
    assert cancelled.status_code == 202
    again = await ingest.client.post(f"/operations/v1/{receipt['id']}:cancel", headers=ingest.headers)
    assert (again.status_code, again.json()["code"]) == (409, "operation_not_cancellable")
    anew = await ingest.upload("never mind")
    assert anew.status_code == 202
    worker = asyncio.create_task(ingest.service.work())
    try:
        await eventually(lambda: stage_done(ingest, anew.json()["id"], "ingest.parse"))
        ended = await eventually(lambda: receipt_in(ingest, receipt["id"], "cancelled"))
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    assert {stage["state"] for stage in ended["stages"]} == {"cancelled"}
    shown = await ingest.client.get(f"/ingest/v1/documents/{receipt['subject']}", headers=ingest.headers)
    assert shown.json()["state"] == "cancelled"


async def test_what_is_parsed_unknown_or_anothers_cannot_be_cancelled(ingest: Ingest) -> None:
    receipt = (await ingest.upload("parsed already")).json()
    url = f"/operations/v1/{receipt['id']}:cancel"
    stranger, reader = ingest.authority.user(uuid7()), ingest.authority.user(ingest.workspace, "documents:read")
    for headers, status in ((stranger, 404), (reader, 403)):
        assert (await ingest.client.post(url, headers=headers)).status_code == status
    worker = asyncio.create_task(ingest.service.work())
    try:
        await eventually(lambda: stage_done(ingest, receipt["id"], "ingest.parse"))
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    late = await ingest.client.post(url, headers=ingest.headers)
    assert (late.status_code, late.json()["code"]) == (409, "operation_not_cancellable")
    missing = await ingest.client.post(f"/operations/v1/{uuid7()}:cancel", headers=ingest.headers)
    assert (missing.status_code, missing.json()["code"]) == (404, "operation_not_found")
