"""The first route that matches is the one, whoever answers it."""

import asyncio
from typing import Any

import pytest

from kgl_servicekit.http import PUBLIC, ApiRouter, create_app
from kgl_servicekit.http.testing import ServedForTests, client_of

router = ApiRouter()


@router.get("/things/first", permission=PUBLIC)
async def first() -> str:
    return "first"


@router.get("/things/{name}", permission=PUBLIC)
async def named(name: str) -> str:
    return f"named {name}"


@router.get("/things/{name}:done", permission=PUBLIC)
async def never_reached(name: str) -> str:
    return f"done {name}"


@router.post("/things/{name}", permission=PUBLIC)
async def sent(name: str) -> str:
    return f"sent {name}"


@router.get("/files/{path:path}", permission=PUBLIC)
async def at_path(path: str) -> str:
    return f"at {path}"


app = create_app(ServedForTests(routers=[("/sample/v1", router)]))
without_paths = ApiRouter()
for each in router.routes:
    if ":path" not in getattr(each, "path", ""):
        without_paths.routes.append(each)
shallow = create_app(ServedForTests(routers=[("/sample/v1", without_paths)]))


@pytest.mark.parametrize(
    ("method", "path", "status", "answer"),
    [
        ("GET", "/things/first", 200, "first"),
        ("GET", "/things/other", 200, "named other"),
        ("GET", "/things/other:done", 200, "named other:done"),
        ("GET", "/things/a%20b", 200, "named a b"),
        ("POST", "/things/first", 200, "sent first"),
        ("PUT", "/things/first", 405, None),
        ("GET", "/things", 404, None),
        ("GET", "/things/", 404, None),
        ("GET", "/things/a/b", 404, None),
        ("HEAD", "/things/first", 200, None),
    ],
)
async def test_routes_are_found_as_the_router_finds_them(
    method: str, path: str, status: int, answer: str | None
) -> None:
    for served in (app, shallow):  # with a path that may hold slashes all is the router's, without none
        async with client_of(served) as client:
            answered = await client.request(method, f"/sample/v1{path}")
        assert answered.status_code == status
        if answer is not None:
            assert answered.json() == answer


async def test_a_path_with_slashes_is_one_parameter() -> None:
    async with client_of(app) as client:
        assert (await client.get("/sample/v1/files/a/b/c")).json() == "at a/b/c"


async def test_the_application_starts_and_stops_with_its_server() -> None:
    messages: asyncio.Queue[Any] = asyncio.Queue()
    told: list[str] = []

    async def send(message: Any) -> None:
        told.append(message["type"])

    messages.put_nowait({"type": "lifespan.startup"})
    messages.put_nowait({"type": "lifespan.shutdown"})
    await shallow({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, messages.get, send)
    assert told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
