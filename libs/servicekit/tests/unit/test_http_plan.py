"""A planned route answers as FastAPI's own solver does: each endpoint is served both ways, and compared."""

import functools
from collections.abc import AsyncIterator, Callable
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

import pytest
from fastapi import BackgroundTasks, Cookie, Depends, Form, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from kgl_servicekit.http import PUBLIC, ApiRouter, PageParams, create_app
from kgl_servicekit.http.routing import ApiRoute
from kgl_servicekit.http.testing import ServedForTests, client_of

THING = UUID(int=7)


class Colour(Enum):
    RED = "red"


class NewThing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: str = Field(min_length=1, max_length=5)
    count: int = 1


class Thing(BaseModel):
    id: UUID
    said: list[str]


calls: list[str] = []


async def counted(request: Request) -> str:
    calls.append(request.url.path)
    return "counted"


def in_a_thread(limit: Annotated[int, Query(le=10)] = 5) -> int:
    return limit


async def nested(first: Annotated[str, Depends(counted)], size: Annotated[int, Depends(in_a_thread)]) -> str:
    return f"{first} {size}"


async def read(
    thing_id: UUID,
    named: Annotated[str, Depends(nested)],
    again: Annotated[str, Depends(counted)],
    response: Response,
    colour: Colour | None = None,
    x_kind: Annotated[str, Header(max_length=5)] = "plain",
    crumb: Annotated[str | None, Cookie()] = None,
    must: Annotated[int, Query(alias="mustBe")] = 3,
) -> Thing:
    response.headers["X-Told"] = "yes"
    response.set_cookie("a", "b")
    response.status_code = 203
    return Thing(id=thing_id, said=[named, again, str(colour), x_kind, str(crumb), str(must)])


async def write(body: NewThing, asked: int) -> Thing:
    return Thing(id=THING, said=[body.title, str(body.count), str(asked)])


async def maybe(body: NewThing | None = None) -> dict[str, Any]:
    return {"body": body}


async def pages(window: PageParams) -> dict[str, Any]:
    return {"limit": window.limit, "position": window.position}


async def nothing() -> None: ...


async def wrong() -> Thing:
    return {"id": "no id"}  # type: ignore[return-value]


def solved(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """The same endpoint, wrapped: what FastAPI has to solve."""

    @functools.wraps(endpoint)
    async def wrapped(**arguments: Any) -> Any:
        return await endpoint(**arguments)

    return wrapped


router = ApiRouter()
for prefix, made in (("/planned", lambda endpoint: endpoint), ("/solved", solved)):
    router.get(f"{prefix}/things/{{thing_id}}", permission=PUBLIC)(made(read))
    router.post(f"{prefix}/things", permission=PUBLIC, status_code=201)(made(write))
    router.post(f"{prefix}/maybe", permission=PUBLIC)(made(maybe))
    router.get(f"{prefix}/pages", permission=PUBLIC)(made(pages))
    router.delete(f"{prefix}/things", permission=PUBLIC, status_code=204)(made(nothing))
    router.get(f"{prefix}/wrong", permission=PUBLIC)(made(wrong))
app = create_app(ServedForTests(routers=[("/sample/v1", router)]))

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "body"),
    [
        ("GET", f"/things/{THING}", {}, None),
        ("GET", f"/things/{THING}?colour=red&limit=10&mustBe=4", {"X-Kind": "b", "Cookie": "crumb=c"}, None),
        ("GET", "/things/none?colour=blue&limit=11&mustBe=x", {"X-Kind": "too long"}, None),
        ("GET", f"/things/{THING}?mustBe=&must=9", {}, None),
        ("HEAD", f"/things/{THING}", {}, None),
        ("POST", "/things?asked=1", JSON, b'{"title": "abc"}'),
        ("POST", "/things?asked=1", {"Content-Type": "application/x+json"}, b'{"title": "abc", "count": "2"}'),
        ("POST", "/things", JSON, b'{"title": "", "count": "x", "more": 1}'),
        ("POST", "/things?asked=1", JSON, b""),
        ("POST", "/things?asked=1", JSON, b"null"),
        ("POST", "/things?asked=1", JSON, b"[1]"),
        ("POST", "/things?asked=1", JSON, b"{"),
        ("POST", "/things?asked=1", {"Content-Type": "text/plain"}, b'{"title": "abc"}'),
        ("POST", "/maybe", JSON, b""),
        ("POST", "/maybe", JSON, b"null"),
        ("GET", "/pages?limit=3", {}, None),
        ("GET", "/pages?limit=0&cursor=%21", {}, None),
        ("GET", "/pages?limit=201", {}, None),
        ("DELETE", "/things", {}, None),
        ("GET", "/wrong", {}, None),
        ("PUT", "/things", {}, None),
    ],
)
async def test_a_planned_route_answers_as_the_solver_does(
    method: str, path: str, headers: dict[str, str], body: bytes | None
) -> None:
    answers = []
    async with client_of(app) as client:
        for prefix in ("/planned", "/solved"):
            answered = await client.request(method, f"/sample/v1{prefix}{path}", headers=headers, content=body)
            trace = answered.headers["x-request-id"]
            own = {"traceparent", "x-request-id", "etag"} if answered.is_error else {"traceparent", "x-request-id"}
            kept = sorted((name, value) for name, value in answered.headers.multi_items() if name not in own)
            answers.append((answered.status_code, kept, answered.text.replace(trace, "")))
    assert answers[0] == answers[1]


def route(path: str) -> ApiRoute:
    (found,) = [each for each in app.routes if isinstance(each, ApiRoute) and each.path == f"/sample/v1{path}"]
    return found


def test_the_two_ways_are_two_ways() -> None:
    assert route("/planned/things/{thing_id}").is_planned
    assert not route("/solved/things/{thing_id}").is_planned


async def test_a_dependency_that_is_named_twice_runs_once() -> None:
    calls.clear()
    async with client_of(app) as client:
        await client.get(f"/sample/v1/planned/things/{THING}")
    assert calls == [f"/sample/v1/planned/things/{THING}"]


async def yielding() -> AsyncIterator[int]:
    yield 1


async def with_form(typed: Annotated[str, Form()]) -> None: ...
async def with_list(tags: Annotated[list[str], Query()]) -> None: ...
async def with_yield(one: Annotated[int, Depends(yielding)]) -> None: ...
async def with_tasks(tasks: BackgroundTasks) -> None: ...
async def with_two_bodies(first: NewThing, second: NewThing) -> None: ...
def in_thread() -> None: ...


@pytest.mark.parametrize("endpoint", [with_form, with_list, with_yield, with_tasks, with_two_bodies, in_thread])
def test_what_a_plan_does_not_know_is_left_to_the_solver(endpoint: Callable[..., Any]) -> None:
    assert not ApiRoute("/", endpoint, methods=["POST"]).is_planned
