"""Bodies: how large, of which kind, and that none is read for nothing."""

from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import uuid4

import httpx
import pytest
from fastapi import File, Form, Request, UploadFile

from kgl_servicekit.http import ApiRouter, create_app
from kgl_servicekit.http.testing import ServedForTests, client_of, settings_for_tests

BASE = "/sample/v1"
LIMIT = 1000
router = ApiRouter()


@router.post("/json", permission=None)
async def take_json(body: dict[str, Any]) -> dict[str, int]:
    return {"members": len(body)}


@router.post("/either", permission=None)
async def take_either(request: Request) -> dict[str, Any]:
    return {"json": await request.json()}


@router.post("/form", permission=None, upload=True)
async def take_form(file: Annotated[UploadFile, File()], title: Annotated[str, Form()] = "") -> dict[str, Any]:
    return {"size": len(await file.read()), "title": title}


@router.post("/stream", permission=None, upload=True)
async def take_stream(request: Request) -> dict[str, int]:
    return {"size": sum([len(part) async for part in request.stream()])}


@router.post("/nothing", permission=None)
async def take_nothing() -> dict[str, str]:
    return {"taken": "nothing"}


service = ServedForTests(routers=[(BASE, router)], settings=settings_for_tests(max_body=LIMIT, max_upload=100_000))
app = create_app(service)
CREDENTIAL = service.authority.user(uuid4())


async def post(path: str, **options: Any) -> httpx.Response:
    async with client_of(app, headers=CREDENTIAL) as client:
        return await client.post(BASE + path, **options)


class Watched:
    """A body without a length, which counts what was taken of it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self.taken < self.size:
            self.taken += 100
            yield b" " * 100


def is_problem(response: httpx.Response, status: int, code: str) -> bool:
    return (response.status_code, response.json()["code"]) == (status, code)


async def test_a_body_up_to_the_limit_is_taken() -> None:
    raw = b'{"a": 1' + b" " * (LIMIT - 8) + b"}"
    assert len(raw) == LIMIT
    assert (await post("/json", content=raw, headers={"Content-Type": "application/json"})).json() == {"members": 1}
    problem_json = {"Content-Type": "application/vnd.kgl+json; charset=utf-8"}
    assert (await post("/json", content=b"{}", headers=problem_json)).status_code == 200


async def test_a_body_over_the_limit_is_refused_by_its_announced_length_unread() -> None:
    body = Watched(LIMIT + 100)
    for path in ("/json", "/either", "/nothing"):
        length = {"Content-Type": "application/json", "Content-Length": str(LIMIT + 1)}
        assert is_problem(await post(path, content=body, headers=length), 413, "too_large")
    assert body.taken == 0


async def test_a_body_over_the_limit_without_a_length_is_refused_as_soon_as_it_is_over() -> None:
    for path in ("/json", "/either"):
        body = Watched(1_000_000)
        refused = await post(path, content=body, headers={"Content-Type": "application/json"})
        assert is_problem(refused, 413, "too_large")
    body = Watched(1_000_000)
    assert is_problem(await post("/stream", content=body), 413, "too_large")
    assert body.taken < 1_000_000


async def test_uploads_have_a_limit_of_their_own() -> None:
    assert (await post("/stream", content=b"x" * 100_000)).json() == {"size": 100_000}
    fine = await post("/form", files={"file": ("a.txt", b"x" * 100_000)}, data={"title": "t"})
    assert fine.json() == {"size": 100_000, "title": "t"}
    large = await post("/form", files={"file": ("a.txt", b"x" * 200_000)})
    assert is_problem(large, 413, "too_large")


@pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "", "1" * 30, "٣"])
async def test_a_length_that_is_no_number_is_refused(length: str) -> None:
    headers = [("Content-Length", length.encode()), ("Content-Type", "application/json")]
    refused = await post("/json", content=Watched(100), headers=headers)
    assert refused.status_code == (413 if length == "1" * 30 else 400)


async def test_two_lengths_that_differ_are_refused() -> None:
    headers = [("Content-Length", "2"), ("Content-Length", "200"), ("Content-Type", "application/json")]
    assert is_problem(await post("/json", content=Watched(100), headers=headers), 400, "length_malformed")


@pytest.mark.parametrize("raw", [b"{", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"[" * 500, b'{"a": ' + b"1" * 300 + b"}"])
async def test_malformed_json_is_400_and_says_what_is_wrong(raw: bytes) -> None:
    for path in ("/json", "/either"):
        refused = await post(path, content=raw, headers={"Content-Type": "application/json"})
        assert is_problem(refused, 400, "malformed_json")
        assert refused.json()["reason"]


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "multipart/form-data; boundary=x", "jsonx", ""])
async def test_a_body_that_is_not_said_to_be_json_is_415(kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    assert is_problem(await post("/json", content=b"{}", headers=headers), 415, "unsupported_type")


async def test_a_form_that_is_something_else_is_415_and_a_missing_one_names_its_fields() -> None:
    assert is_problem(await post("/form", json={}), 415, "unsupported_type")
    assert is_problem(await post("/form", content=b"x"), 415, "unsupported_type")
    missing = await post("/form")
    assert is_problem(missing, 422, "invalid")
    assert missing.json()["errors"][0]["pointer"] == "#/file"


def part(name: str, content: bytes = b"x", more: bytes = b"") -> bytes:
    return (
        b'--b\r\nContent-Disposition: form-data; name="' + name.encode() + b'"' + more + b"\r\n\r\n" + content + b"\r\n"
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"".join(part(f"f{n}") for n in range(200)) + b"--b--",
        b"".join(part(f"f{n}", more=b'; filename="a"') for n in range(20)) + b"--b--",
        part("title", b"x" * 50_000) * 1,
        b'--b\r\nContent-Disposition: form-data; name="' + b"n" * 60_000,
        b"nonsense",
        b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--",
    ],
    ids=["fields", "files", "breaks off", "endless header", "nonsense", "nameless"],
)
async def test_a_form_that_cannot_be_a_form_is_4xx(raw: bytes) -> None:
    refused = await post("/form", content=raw, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert refused.status_code in {400, 422}
    assert refused.headers["content-type"] == "application/problem+json"


async def test_a_form_without_a_boundary_is_400() -> None:
    refused = await post("/form", content=b"x", headers={"Content-Type": "multipart/form-data"})
    assert is_problem(refused, 400, "form_malformed")
