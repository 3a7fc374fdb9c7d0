"""The documentation of the APIs at the embedded edge: the page, what it loads, and that it asks no other host."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse

from kgl_cli.docs import FILES, HEADERS
from kgl_cli.edge import Edge

ROOT = Path(__file__).parents[2]
URL = "http://localhost:8080"


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    edge = Edge(URL, {"graph": PlainTextResponse("graph")})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=edge), base_url=URL) as client:
        yield client


async def test_the_page_and_all_that_it_loads_are_there_with_their_types(http: httpx.AsyncClient) -> None:
    page = await http.get("/docs")
    loaded = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    types = {path: re.split("[/;]", (await http.get(path)).headers["content-type"])[1] for path in ("/docs", *loaded)}
    assert types == {
        "/docs": "html",
        "/docs/favicon-32x32.png": "png",
        "/docs/swagger-ui.css": "css",
        "/docs/swagger-ui-bundle.js": "javascript",
        "/docs/start.js": "javascript",
        "/openapi.json": "json",
    }
    assert set(types) | {"/docs/"} == set(FILES)
    assert (await http.get("/docs/")).text == page.text


async def test_the_document_is_the_one_of_all_services_under_this_address(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    assert document["servers"] == [{"url": "/"}]
    assert {path.split("/")[1] for path in document["paths"]} >= {"auth", "ingest", "graph", "content", "publish"}


async def test_the_front_page_tells_of_them_and_other_paths_are_as_before(http: httpx.AsyncClient) -> None:
    told = (await http.get("/")).json()
    assert (told["docs"], told["openapi"], told["apis"]) == ("/docs", "/openapi.json", ["/graph/v1"])
    assert (await http.get("/graph/v1/stats")).text == "graph"
    for path in ("/docs/page.html/x", "/docs/__init__.py", "/docs/openapi.json", "/docsx"):
        assert (await http.get(path)).json()["code"] == "route_unknown", path


async def test_no_script_style_or_request_of_the_page_may_come_from_or_go_elsewhere(http: httpx.AsyncClient) -> None:
    for path in FILES:
        answer = await http.get(path)
        assert {name: answer.headers[name] for name in HEADERS} == dict(HEADERS), path
    rules = dict(rule.split(" ", 1) for rule in HEADERS["Content-Security-Policy"].split("; "))
    assert rules.pop("img-src") == "'self' data:"
    assert set(rules.values()) == {"'none'", "'self'"}
    assert rules["default-src"] == rules["frame-ancestors"] == "'none'"


async def test_what_the_page_loads_names_no_other_host(http: httpx.AsyncClient) -> None:
    page, start = (await http.get("/docs")).text, (await http.get("/docs/start.js")).text
    assert "//" not in page
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\son\w+=|\sstyle=", page)
    assert "validatorUrl: null" in start  # else it is asked whether the document is right
    assert "queryConfigEnabled" not in start  # a link could have the page load another document
    assert not re.search(r"https?:", start)
    style = (await http.get("/docs/swagger-ui.css")).text
    loads = re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')]{0,12})", style)
    assert all(each.startswith("data:") for each in loads), loads


async def test_who_has_it_already_is_told_so_and_nobody_can_change_it(http: httpx.AsyncClient) -> None:
    tag = (await http.get("/openapi.json")).headers["etag"]
    again = await http.get("/openapi.json", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    assert (await http.head("/docs")).content == b""
    refused = await http.post("/docs")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
    assert (await http.get("/docs", headers={"Host": "evil.example"})).headers["location"] == f"{URL}/docs"


def test_nginx_says_the_same_of_the_same_files() -> None:
    configuration = (ROOT / "deploy/nginx/kgl/docs.conf").read_text()
    # what comes with every answer of nginx is in a file of its own; the id of a request and https are its business
    common = (ROOT / "deploy/nginx/kgl/own.conf").read_text()
    told = re.findall(r'add_header (\S+) (?:"([^"]*)"|([^$\s]+)) always;', configuration + common)
    assert {name: quoted or plain for name, quoted, plain in told} == dict(HEADERS)
    served = re.search(r"docs/\(([^)]*)\)", configuration)
    assert served is not None
    assert {f"/docs/{name}" for name in served[1].replace("\\", "").split("|")} == {
        *(FILES.keys() - {"/docs", "/docs/", "/openapi.json"}),
        "/docs/page.html",
    }
    recipe = (ROOT / "deploy/nginx/Dockerfile").read_text()
    assert all(file.name in recipe for file in FILES.values())
    front = re.search(r"return 200 '(\{\"name\":.*\})'", (ROOT / "deploy/nginx/routes.template").read_text())
    assert front is not None
    assert json.loads(front[1])["docs"] == "/docs"
