"""Versions of resources, and pages of lists."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import Request, Response
from pydantic import BaseModel

from kgl_servicekit.http import (
    ApiRouter,
    IfMatch,
    Page,
    PageParams,
    RequiredIfMatch,
    conditional,
    create_app,
    etag_of,
    page,
    require_match,
)
from kgl_servicekit.http.testing import ServedForTests, client_of, settings_for_tests
from kgl_servicekit.ids import encode_cursor

BASE = "/sample/v1"
router = ApiRouter()


class Item(BaseModel):
    id: int
    title: str = "title"


class State:
    """The one item, and how often its body was made."""

    version = 1
    made = 0


def tag() -> str:
    return etag_of("item", State.version)


@router.get("/item", permission=None)
async def read_item(request: Request, response: Response) -> Item:
    conditional(request, response, tag())
    State.made += 1
    return Item(id=State.version)


@router.get("/untagged", permission=None)
async def read_untagged() -> Item:
    return Item(id=State.version)


@router.get("/missing", permission=None, status_code=202)
async def read_other_status() -> Item:
    return Item(id=1)


@router.patch("/item", permission=None)
async def change_item(if_match: RequiredIfMatch) -> Item:
    if_match.check(tag())
    State.version += 1
    return Item(id=State.version)


@router.put("/item", permission=None)
async def replace_item(if_match: IfMatch) -> Item:
    if_match.check(tag())
    State.version += 1
    return Item(id=State.version)


@router.delete("/item", permission=None, status_code=204)
async def delete_item(request: Request) -> None:
    require_match(request, tag(), required=True)


@router.get("/items", permission=None)
async def list_items(window: PageParams) -> Page[Item]:
    start = 0 if window.position is None else window.position[0] + 1
    rows = [Item(id=number) for number in range(start, 7)][: window.fetch]
    return page(rows, window.limit, lambda item: [item.id])


service = ServedForTests(routers=[(BASE, router)], settings=settings_for_tests(max_page=200))
app = create_app(service)
CREDENTIAL = service.authority.user(uuid4())


async def ask(method: str, path: str, **headers: Any) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client_of(app, headers={**CREDENTIAL, **sent}) as client:
        return await client.request(method, BASE + path)


def is_problem(response: httpx.Response, status: int, code: str) -> bool:
    return (response.status_code, response.json()["code"]) == (status, code)


async def test_a_version_that_the_client_has_is_304_without_a_body() -> None:
    first = await ask("GET", "/item")
    assert first.headers["etag"] == tag()
    made = State.made
    for known in (tag(), f"W/{tag()}", f'"other", {tag()}', "*", f" {tag()} "):
        same = await ask("GET", "/item", If_None_Match=known)
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag())
        assert same.headers["cache-control"] == "private, no-cache"
        assert same.headers["vary"] == "Kgl-Workspace, Authorization"
    assert State.made == made
    assert (await ask("GET", "/item", If_None_Match='"other"')).status_code == 200


async def test_every_read_has_a_tag_of_its_bytes_if_it_has_no_other() -> None:
    first = await ask("GET", "/untagged")
    assert (await ask("GET", "/untagged", If_None_Match=first.headers["etag"])).status_code == 304
    State.version += 1
    changed = await ask("GET", "/untagged", If_None_Match=first.headers["etag"])
    assert changed.status_code == 200
    assert changed.headers["etag"] != first.headers["etag"]
    assert "etag" not in (await ask("GET", "/missing", If_None_Match="*")).headers


async def test_head_is_get_without_the_body() -> None:
    read, head = await ask("GET", "/untagged"), await ask("HEAD", "/untagged")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == read.headers["etag"]
    assert head.headers["content-length"] == read.headers["content-length"]


async def test_a_change_must_be_about_the_present_version() -> None:
    before = State.version
    assert is_problem(await ask("PATCH", "/item", If_Match='"old"'), 412, "precondition_failed")
    assert is_problem(await ask("PUT", "/item", If_Match=f"W/{tag()}"), 412, "precondition_failed")
    assert State.version == before
    assert (await ask("PATCH", "/item", If_Match=f'"old", {tag()}')).status_code == 200
    assert (await ask("PATCH", "/item", If_Match="*")).status_code == 200
    assert (await ask("PUT", "/item")).status_code == 200
    assert State.version == before + 3


async def test_where_it_is_demanded_a_change_without_a_version_is_428() -> None:
    assert is_problem(await ask("PATCH", "/item"), 428, "precondition_required")
    assert is_problem(await ask("DELETE", "/item"), 428, "precondition_required")
    assert (await ask("DELETE", "/item", If_Match=tag())).status_code == 204


@pytest.mark.parametrize("header", ["abc", '"a" "b"', "", '"a', ", ".join(f'"{n}"' for n in range(51))])
async def test_what_is_no_list_of_tags_is_400(header: str) -> None:
    refused = await ask("PATCH", "/item", If_Match=header)
    assert is_problem(refused, 400, "etag_malformed")
    assert is_problem(await ask("GET", "/item", If_None_Match=header), 400, "etag_malformed")


def test_a_tag_changes_with_each_of_its_parts() -> None:
    workspace = UUID(int=1)
    parts: list[tuple[Any, ...]] = [(1,), ("1",), (1, 2), (12,), (b"1",), (Item(id=1),), (Item(id=2),), (workspace,)]
    tags = [etag_of(*each) for each in parts]
    assert len(set(tags)) == len(tags) - 1  # the number 1 and the bytes of its JSON are the same
    assert all(tag.startswith('"') and tag.endswith('"') for tag in tags)
    assert etag_of({"a": 1, "b": 2}) == etag_of({"b": 2, "a": 1})


async def test_a_list_is_read_page_by_page_to_its_end() -> None:
    seen, cursor = [], ""
    for _ in range(10):
        answered = (await ask("GET", f"/items?limit=3{cursor}")).json()
        seen.append([item["id"] for item in answered["items"]])
        if answered["next"] is None:
            break
        cursor = f"&cursor={answered['next']}"
    assert seen == [[0, 1, 2], [3, 4, 5], [6]]


async def test_a_full_last_page_has_no_next() -> None:
    answered = (await ask("GET", "/items?limit=7")).json()
    assert (len(answered["items"]), answered["next"]) == (7, None)
    assert len((await ask("GET", "/items")).json()["items"]) == 7


def test_an_empty_list_is_one_empty_page() -> None:
    empty: Page[Item] = page([], 50, lambda item: item.id)
    assert empty == Page(items=(), next=None)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("limit=0", 422, "invalid"),
        ("limit=201", 422, "invalid"),
        ("limit=x", 422, "invalid"),
        ("cursor=!!!", 400, "cursor_malformed"),
        ("cursor=YWJj", 400, "cursor_malformed"),
        (f"cursor={'a' * 3000}", 422, "invalid"),
    ],
)
async def test_a_window_that_cannot_be_is_refused(query: str, status: int, code: str) -> None:
    assert is_problem(await ask("GET", f"/items?{query}"), status, code)


async def test_the_largest_page_is_as_the_settings_say() -> None:
    assert (await ask("GET", f"/items?limit=200&cursor={encode_cursor([2])}")).status_code == 200
