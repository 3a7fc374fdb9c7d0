"""Every way to fail, and that each is a problem document which says what to do and not how we are built."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import httpx
import pytest
from fastapi import HTTPException, Query
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from kgl_servicekit import errors
from kgl_servicekit.errors import Problem
from kgl_servicekit.http import PUBLIC, ApiRouter, Run, create_app
from kgl_servicekit.http.answers import problem_response
from kgl_servicekit.http.testing import FakeDatabase, ServedForTests, client_of

BASE = "/sample/v1"
SECRET = "postgresql://owner:hunter2@db/kgl"
router = ApiRouter()


class Item(BaseModel):
    title: str = Field(min_length=1, max_length=5)
    kind: Literal["a", "b"] = "a"


class Order(BaseModel):
    items: list[Item]
    odd: int = Field(default=1, alias="o/d~d %")


class Counted(BaseModel):
    count: int


@router.post("/orders", permission=PUBLIC)
async def order(body: Order, limit: Annotated[int, Query(le=3)] = 1) -> None: ...


@router.get("/raise/{name}", permission=PUBLIC)
async def raise_named(name: str) -> None:
    raise getattr(errors, name)


@router.get("/crash", permission=PUBLIC)
async def crash() -> None:
    raise RuntimeError(f"select * from secrets -- {SECRET}")


@router.get("/teapot", permission=PUBLIC)
async def teapot() -> None:
    raise HTTPException(418, detail=SECRET)


@router.get("/wrong", permission=PUBLIC)
async def wrong_answer() -> Counted:
    return {"count": SECRET}  # type: ignore[return-value]


@router.get("/slow", permission=PUBLIC, deadline=0.01)
async def slow() -> None:
    await asyncio.Event().wait()


@router.get("/late", permission=PUBLIC)
async def late() -> None:
    raise TimeoutError(SECRET)


@router.get("/out", permission=PUBLIC)
async def out(run: Run) -> None:
    async def nothing(tx: Any, command: None) -> None: ...

    await run(nothing, None)


@router.get("/broken-stream", permission=PUBLIC)
async def broken_stream() -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"first"
        raise RuntimeError(SECRET)

    return StreamingResponse(parts())


database = FakeDatabase()
service = ServedForTests(routers=[(BASE, router)], database=database)
app = create_app(service)


async def ask(method: str, path: str, **options: Any) -> httpx.Response:
    async with client_of(app) as client:
        response = await client.request(method, path, **options)
    return checked(response)


def checked(response: httpx.Response) -> httpx.Response:
    """What holds for every error."""
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    assert body["status"] == response.status_code
    assert body["type"] == f"urn:kgl:problem:{body['code']}"
    assert body["title"]
    assert body["detail"].endswith((".", "`"))
    assert body["trace_id"] == response.headers["x-request-id"] == response.headers["traceparent"].split("-")[1]
    for leak in ("hunter2", "select ", "Traceback", "/site-packages", "RuntimeError", ".py"):
        assert leak not in response.text
    return response


KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, Problem) and kind is not Problem
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
async def test_every_kind_of_problem_has_its_status_code_and_sentence(kind: type[Problem]) -> None:
    refused = await ask("GET", f"{BASE}/raise/{kind.__name__}")
    assert (refused.status_code, refused.json()["code"]) == (kind.status, kind.code)
    assert refused.json()["detail"] == kind.sentence
    assert ("retry-after" in refused.headers) == (kind.status == 503)
    assert ("www-authenticate" in refused.headers) == (kind.status == 401)


def test_how_long_to_wait_is_rounded_up_to_whole_seconds() -> None:
    waits = {0.0: "1", 0.2: "1", 1.0: "1", 1.01: "2", 60: "60"}
    for seconds, header in waits.items():
        assert problem_response(errors.TooMany(retry_after=seconds), "0").headers["retry-after"] == header


async def test_each_invalid_place_is_told_by_its_pointer() -> None:
    body = {"items": [{"title": "fine"}, {"title": "", "kind": "c"}, {}], "o/d~d %": "x"}
    refused = await ask("POST", f"{BASE}/orders?limit=9", json=body)
    assert refused.status_code == 422
    places = {(each["location"], each["pointer"]): each["code"] for each in refused.json()["errors"]}
    assert places == {
        ("query", "#/limit"): "less_than_equal",
        ("body", "#/items/1/title"): "string_too_short",
        ("body", "#/items/1/kind"): "literal_error",
        ("body", "#/items/2/title"): "missing",
        ("body", "#/o~1d~0d%20%25"): "int_parsing",
    }


async def test_a_missing_body_is_the_whole_document() -> None:
    refused = await ask("POST", f"{BASE}/orders")
    assert refused.json()["errors"] == [
        {"pointer": "#", "location": "body", "code": "missing", "detail": "Field required"}
    ]


async def test_thousands_of_mistakes_are_not_all_told() -> None:
    refused = await ask("POST", f"{BASE}/orders", json={"items": [{} for _ in range(5000)]})
    assert len(refused.json()["errors"]) == 50


async def test_an_unknown_address_and_an_unused_method() -> None:
    missing = await ask("GET", f"{BASE}/nothing")
    assert (missing.status_code, missing.json()["code"]) == (404, "route_not_found")
    assert (await ask("GET", f"{BASE}/orders/")).status_code == 404
    assert (await ask("GET", "//evil.example/..")).status_code == 404
    for method in ("GET", "TRACE", "OPTIONS", "BREW"):
        refused = await ask(method, f"{BASE}/orders")
        assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")
        assert refused.headers["allow"] == "POST"
    assert (await ask("DELETE", "/health/live")).headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["crash", "wrong", "late"])
async def test_what_nobody_foresaw_is_a_500_that_tells_nothing(path: str) -> None:
    refused = await ask("GET", f"{BASE}/{path}")
    assert (refused.status_code, refused.json()["code"]) == (500, "internal_error")


async def test_a_status_of_the_framework_keeps_its_number_and_loses_its_text() -> None:
    refused = await ask("GET", f"{BASE}/teapot")
    assert (refused.status_code, refused.json()["code"]) == (418, "i_m_a_teapot")


async def test_what_takes_too_long_is_given_up() -> None:
    refused = await ask("GET", f"{BASE}/slow")
    assert (refused.status_code, refused.json()["code"]) == (503, "deadline_exceeded")
    assert refused.headers["retry-after"] == "1"


async def test_an_outage_of_the_database_is_503() -> None:
    database.outage = errors.Unavailable(retry_after=3)
    try:
        refused = await ask("GET", f"{BASE}/out")
    finally:
        database.outage = None
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "3")


@pytest.mark.parametrize("path", ["/raise/%00", "/raise/a?x=%00", "/raise/a?x=1%00"])
async def test_the_character_nul_is_refused_in_an_address(path: str) -> None:
    refused = await ask("GET", BASE + path)
    assert (refused.status_code, refused.json()["code"]) == (400, "nul_refused")


async def test_a_stream_that_breaks_is_cut_and_not_mended() -> None:
    with pytest.raises(RuntimeError):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            await client.get(f"{BASE}/broken-stream")
