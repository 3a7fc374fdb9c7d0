"""Documents over HTTP, on a real database: accepted, parsed, read, replaced, deleted."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from kgl_ingest.testing import Ingest, ingest_kit
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import PostgresForTests
from kgl_servicekit.testing.s3 import S3ForTests

TEXT = "# Title\n\nSome words about parsing.\n\n" + "\n\n".join(f"Paragraph {n} " + "word " * 80 for n in range(12))


@asynccontextmanager
async def working(ingest: Ingest) -> AsyncIterator[None]:
    task = asyncio.create_task(ingest.service.work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def parsed(ingest: Ingest, document: str) -> dict[str, Any] | None:
    answer = await ingest.client.get(f"/ingest/v1/documents/{document}", headers=ingest.headers)
    found: dict[str, Any] = answer.json()
    return found if found["state"] in {"parsed", "failed"} else None


async def emitted(ingest: Ingest) -> list[str]:
    async def read(tx: Transaction, _: None) -> list[str]:
        rows = await tx.fetch("select type from outbox_log where topic = 'kgl.documents' order by id")
        return [row["type"] for row in rows]

    return await ingest.database.run((), read, None)


async def test_a_document_is_accepted_with_its_whole_plan_and_parsed_into_exact_spans(ingest: Ingest) -> None:
    accepted = await ingest.upload(TEXT, media_type="text/markdown", name="notes.md")
    assert accepted.status_code == 202
    receipt = accepted.json()
    assert accepted.headers["location"] == f"/operations/v1/{receipt['id']}"
    assert [stage["name"] for stage in receipt["stages"]] == [
        "ingest.parse",
        "graph.index",
        "graph.extract.reader",
        "graph.link.reader",
        "graph.summarise.reader",
        "content.draft.reader",
        "publish.live",
    ]
    document = receipt["subject"]
    async with working(ingest):
        shown = await eventually(lambda: parsed(ingest, document))
        done = await ingest.client.get(f"/operations/v1/{receipt['id']}", headers=ingest.headers)
        await eventually(lambda: _stage_done(ingest, receipt["id"], "ingest.parse"))
    assert done.json()["kind"] == "ingest.document"
    assert (shown["title"], shown["state"]) == ("Title", "parsed")
    chunks = await ingest.client.get(f"/ingest/v1/documents/{document}/versions/1/chunks", headers=ingest.headers)
    text = (await ingest.client.get(f"/ingest/v1/documents/{document}/versions/1/text", headers=ingest.headers)).text
    lines = [json.loads(line) for line in chunks.text.splitlines()]
    assert len(lines) == shown["chunk_count"] > 1
    assert all(text[line["start"] : line["end"]] == line["text"] for line in lines)
    assert await emitted(ingest) == ["ingest.document.accepted.v1", "ingest.document.parsed.v1"]


async def _stage_done(ingest: Ingest, operation: str, stage: str) -> bool:
    receipt = (await ingest.client.get(f"/operations/v1/{operation}", headers=ingest.headers)).json()
    return any(s["name"] == stage and s["state"] == "done" for s in receipt["stages"])


async def test_chunks_start_at_a_cursor_and_come_packed_if_asked(ingest: Ingest) -> None:
    receipt = (await ingest.upload(TEXT)).json()
    async with working(ingest):
        await eventually(lambda: parsed(ingest, receipt["subject"]))
    path = f"/ingest/v1/documents/{receipt['subject']}/versions/1/chunks"
    whole = (await ingest.client.get(path, headers=ingest.headers)).text.splitlines()
    rest = await ingest.client.get(path, params={"cursor": 2}, headers=ingest.headers)
    assert rest.text.splitlines() == whole[2:]
    async with ingest.client.stream("GET", path, headers={**ingest.headers, "Accept-Encoding": "gzip"}) as packed:
        raw = b"".join([block async for block in packed.aiter_raw()])
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw).decode().splitlines() == whole
    unchanged = await ingest.client.get(
        path, headers={**ingest.headers, "If-None-Match": rest.headers["etag"]}, params={"cursor": 2}
    )
    assert unchanged.status_code == 304


async def test_packed_chunks_have_a_tag_of_their_own_that_is_known_to_who_asks_for_them_packed(ingest: Ingest) -> None:
    receipt = (await ingest.upload(TEXT)).json()
    async with working(ingest):
        await eventually(lambda: parsed(ingest, receipt["subject"]))
    path = f"/ingest/v1/documents/{receipt['subject']}/versions/1/chunks"

    async def ask(coding: str, **known: str) -> httpx.Response:
        return await ingest.client.get(path, headers={**ingest.headers, "Accept-Encoding": coding, **known})

    plain, packed = await ask("identity"), await ask("gzip")
    assert plain.headers["etag"] != packed.headers["etag"]
    assert "Accept-Encoding" in plain.headers["vary"]
    assert plain.headers["vary"] == packed.headers["vary"]
    for coding, same, other in (("identity", plain, packed), ("gzip", packed, plain)):
        assert (await ask(coding, **{"If-None-Match": same.headers["etag"]})).status_code == 304
        assert (await ask(coding, **{"If-None-Match": other.headers["etag"]})).status_code == 200


async def test_the_first_answer_says_until_when_each_stage_is_planned_to_end_as_the_list_does(ingest: Ingest) -> None:
    accepted = (await ingest.upload("in time")).json()
    planned = {stage["name"]: stage["deadline_at"] for stage in accepted["stages"]}
    assert None not in planned.values()
    async with working(ingest):
        known = await eventually(lambda: _listed(ingest, accepted["id"]))
    assert {stage["name"]: stage["deadline_at"] for stage in known["stages"]} == planned


async def _listed(ingest: Ingest, operation: str) -> dict[str, Any] | None:
    answer = await ingest.client.get(f"/operations/v1/{operation}", headers=ingest.headers)
    found: dict[str, Any] = answer.json()
    return found if answer.status_code == 200 else None


async def test_the_same_content_twice_is_refused_and_names_the_first(ingest: Ingest) -> None:
    first = (await ingest.upload("hello")).json()
    refused = await ingest.upload("hello")
    assert (refused.status_code, refused.json()["code"]) == (409, "document_duplicate")
    assert refused.json()["existing"] == first["subject"]
    assert (await ingest.upload("hello", on_duplicate="accept")).status_code == 202


async def test_twins_of_the_same_content_make_one_document(ingest: Ingest) -> None:
    answers = await asyncio.gather(*(ingest.upload("the same") for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 7


async def test_an_idempotency_key_answers_the_same_and_makes_one_document(ingest: Ingest) -> None:
    headers = {**ingest.headers, "Idempotency-Key": "k1"}
    answers = [
        await ingest.client.post(
            "/ingest/v1/documents", files={"file": ("a.txt", b"content", "text/plain")}, headers=headers
        )
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].content == answers[1].content
    other = await ingest.client.post(
        "/ingest/v1/documents", files={"file": ("a.txt", b"other", "text/plain")}, headers=headers
    )
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("file", "status", "code"),
    [
        (("a.pdf", b"no pdf", "application/pdf"), 415, "content_unsupported"),
        (("a.txt", b"a\0b", "text/plain"), 415, "content_unsupported"),
        (("a.png", b"\x89PNG", "image/png"), 415, "content_unsupported"),
        (("a.txt", b"", "text/plain"), 422, "content_empty"),
    ],
)
async def test_what_is_no_document_is_refused(
    ingest: Ingest, file: tuple[str, bytes, str], status: int, code: str
) -> None:
    answer = await ingest.client.post("/ingest/v1/documents", files={"file": file}, headers=ingest.headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await emitted(ingest) == []


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=x"])
async def test_a_form_that_cannot_be_read_is_refused(ingest: Ingest, kind: str) -> None:
    headers = ingest.headers | {"Content-Type": kind}
    answer = await ingest.client.post("/ingest/v1/documents", content=b"--y\r\nno form", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "form_malformed")


@pytest.mark.parametrize(
    "options",
    [
        {"json": {}},
        {"json": {"text": "x", "owner": "me"}},
        {"json": {"text": "x", "on_duplicate": "sometimes"}},
        {"data": {"name": "x"}, "files": {"other": ("a", b"x", "text/plain")}},
    ],
)
async def test_a_malformed_upload_names_each_place(ingest: Ingest, options: dict[str, Any]) -> None:
    answer = await ingest.client.post("/ingest/v1/documents", headers=ingest.headers, **options)
    assert (answer.status_code, answer.json()["code"]) == (422, "upload_malformed")
    assert all(error["pointer"].startswith("#/") for error in answer.json()["errors"])


async def test_a_body_of_another_kind_is_refused(ingest: Ingest) -> None:
    headers = {**ingest.headers, "Content-Type": "text/plain"}
    answer = await ingest.client.post("/ingest/v1/documents", content=b"x", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "content_unsupported")


async def test_a_document_without_text_fails_and_its_receipt_says_why(ingest: Ingest) -> None:
    html = "<!doctype html><html><body><script>1</script></body></html>"
    receipt = (await ingest.upload(html, media_type="text/html")).json()
    async with working(ingest):
        shown = await eventually(lambda: parsed(ingest, receipt["subject"]))
        ended = await eventually(lambda: _ended(ingest, receipt["id"]))
    assert (shown["state"], shown["error"]) == ("failed", "no_text")
    stage = next(stage for stage in ended["stages"] if stage["name"] == "ingest.parse")
    assert (stage["state"], stage["error"]) == ("failed", "no_text")


async def _ended(ingest: Ingest, operation: str) -> dict[str, Any] | None:
    receipt: dict[str, Any] = (await ingest.client.get(f"/operations/v1/{operation}", headers=ingest.headers)).json()
    return receipt if any(stage["state"] == "failed" for stage in receipt["stages"]) else None


async def test_a_new_version_replaces_the_content_and_keeps_the_document(ingest: Ingest) -> None:
    first = (await ingest.upload("one")).json()
    answer = await ingest.client.post(
        f"/ingest/v1/documents/{first['subject']}/versions", json={"text": "two"}, headers=ingest.headers
    )
    assert answer.status_code == 202
    shown = (await ingest.client.get(f"/ingest/v1/documents/{first['subject']}", headers=ingest.headers)).json()
    assert (shown["version"], shown["size"]) == (2, 3)
    missing = await ingest.client.post(
        f"/ingest/v1/documents/{uuid7()}/versions", json={"text": "three"}, headers=ingest.headers
    )
    assert missing.status_code == 404


async def test_the_file_comes_back_as_an_attachment_that_no_browser_runs(ingest: Ingest) -> None:
    html = b"<!doctype html><html><body><script>alert(1)</script>hi</body></html>"
    uploaded = await ingest.client.post(
        "/ingest/v1/documents", files={"file": ('ä"\r\n.html', html, "text/html")}, headers=ingest.headers
    )
    file = await ingest.client.get(f"/ingest/v1/documents/{uploaded.json()['subject']}/file", headers=ingest.headers)
    assert file.content == html
    assert file.headers["content-disposition"].startswith("attachment;")
    assert file.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in file.headers["content-security-policy"]


async def test_a_link_to_a_file_is_plain_where_the_store_has_no_server(ingest: Ingest) -> None:
    document = (await ingest.upload("the file", name="x.txt")).json()["subject"]
    answer = await ingest.client.get(f"/ingest/v1/documents/{document}/file/link", headers=ingest.headers)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "url": f"http://localhost:8080/ingest/v1/documents/{document}/file?version=1",
        "expires_at": None,
        "needs_token": True,
    }
    file = await ingest.client.get(answer.json()["url"], headers=ingest.headers)
    assert file.content == b"the file"


async def test_a_link_to_a_file_is_signed_where_the_store_has_a_server(
    postgres: PostgresForTests, tmp_path: Path
) -> None:
    server = S3ForTests()
    async with ingest_kit(postgres, tmp_path, objects=server.store()) as ingest:
        document = (await ingest.upload("the file", name="ü.txt")).json()["subject"]
        path = f"/ingest/v1/documents/{document}/file/link"
        begun = datetime.now(UTC)
        link = (await ingest.client.get(path, headers=ingest.headers)).json()
        url = httpx.URL(link["url"])
        assert (url.host, url.path) == ("kgl.test", f"/bucket/{next(iter(server.objects))}")
        assert url.params["response-content-disposition"] == "attachment; filename*=UTF-8''%C3%BC.txt"
        assert url.params["X-Amz-Expires"] == "300"
        assert link["needs_token"] is False
        expires_in = datetime.fromisoformat(link["expires_at"]) - begun
        assert timedelta(minutes=5) <= expires_in < timedelta(minutes=6)
        absent = await ingest.client.get(path, params={"version": 2}, headers=ingest.headers)
        other = await ingest.client.get(path, headers=ingest.authority.user(uuid7()))
        writer = ingest.authority.user(ingest.workspace, "documents:write")
        refused = await ingest.client.get(path, headers=writer)
        assert (absent.status_code, other.status_code, refused.status_code) == (404, 404, 403)


async def test_a_deleted_document_is_gone_with_its_objects_but_not_with_shared_ones(ingest: Ingest) -> None:
    one = (await ingest.upload("shared")).json()["subject"]
    two = (await ingest.upload("shared", on_duplicate="accept")).json()["subject"]
    async with working(ingest):
        for document in (one, two):
            await eventually(lambda document=document: parsed(ingest, document))
        deleted = await ingest.client.delete(f"/ingest/v1/documents/{one}", headers=ingest.headers)
        assert deleted.status_code == 202
        await eventually(lambda: _stage_done(ingest, deleted.json()["id"], "ingest.erase"))
        for path in ("", "/versions/1/chunks", "/versions/1/text", "/file", "/file/link"):
            answer = await ingest.client.get(f"/ingest/v1/documents/{one}{path}", headers=ingest.headers)
            assert (answer.status_code, answer.json()["code"]) == (410, "document_deleted")
        kept = await ingest.client.get(f"/ingest/v1/documents/{two}/file", headers=ingest.headers)
        assert kept.content == b"shared"
        again = await ingest.client.delete(f"/ingest/v1/documents/{one}", headers=ingest.headers)
        assert again.status_code == 410
        last = await ingest.client.delete(f"/ingest/v1/documents/{two}", headers=ingest.headers)
        await eventually(lambda: _stage_done(ingest, last.json()["id"], "ingest.erase"))
    assert [entry async for entry in ingest.service.outside.objects.listed("")] == []
    assert (await ingest.upload("shared")).status_code == 202


async def test_another_workspace_sees_nothing(ingest: Ingest) -> None:
    document = (await ingest.upload("mine")).json()["subject"]
    other = ingest.authority.user(uuid7())
    for path in ("", "/versions/1/chunks", "/versions/1/text", "/file", "/file/link"):
        answer = await ingest.client.get(f"/ingest/v1/documents/{document}{path}", headers=other)
        assert answer.status_code == 404
    assert (await ingest.client.delete(f"/ingest/v1/documents/{document}", headers=other)).status_code == 404
    assert (await ingest.client.get("/ingest/v1/documents", headers=other)).json()["items"] == []


async def test_a_list_goes_on_by_cursor_newest_first(ingest: Ingest) -> None:
    made = [(await ingest.upload(f"text {n}")).json()["subject"] for n in range(5)]
    seen: list[str] = []
    params: dict[str, str] = {"limit": "2"}
    while True:
        page = (await ingest.client.get("/ingest/v1/documents", params=params, headers=ingest.headers)).json()
        seen += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        params["cursor"] = page["next"]
    assert seen == made[::-1]


async def test_a_version_that_is_not_parsed_says_where_to_wait(ingest: Ingest) -> None:
    receipt = (await ingest.upload("not yet")).json()
    answer = await ingest.client.get(
        f"/ingest/v1/documents/{receipt['subject']}/versions/1/chunks", headers=ingest.headers
    )
    assert (answer.status_code, answer.json()["operation_id"]) == (409, receipt["id"])


async def test_a_store_that_is_out_refuses_the_upload_and_nothing_is_left(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def out(*_: object) -> None:
        raise Unavailable("The store is out.", retry_after=3)

    monkeypatch.setattr(type(ingest.service.outside.objects), "put", out)
    answer = await ingest.upload("lost?")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
    assert await emitted(ingest) == []


async def test_a_role_without_the_permission_is_refused(ingest: Ingest) -> None:
    headers = ingest.authority.user(ingest.workspace, "documents:read")
    answer: httpx.Response = await ingest.client.post("/ingest/v1/documents", json={"text": "x"}, headers=headers)
    assert (answer.status_code, answer.json()["permission"]) == (403, "documents:write")


async def test_the_limits_are_told(ingest: Ingest) -> None:
    limits = (await ingest.client.get("/ingest/v1/limits", headers=ingest.headers)).json()
    assert limits["max_upload"] > limits["max_body"] > 0
    assert "application/pdf" in limits["media_types"]
