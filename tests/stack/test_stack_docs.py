"""The documentation of the APIs, through the edge: one page, its files, and a document that the services keep to."""

import json
import re
from typing import Any

from kgl_cli.docs import FILES, HEADERS, OPENAPI
from tests.stack.harness import Stack

# what only the built-in issuer has
_BUILT_IN = ("/auth/v1/oidc/", "/auth/v1/instance/signing-keys")


async def test_the_page_and_all_that_it_loads_come_from_the_edge(stack: Stack) -> None:
    async with stack.client() as client:
        page = await client.get("/docs")
        loaded = {path: await client.get(path) for path in re.findall(r'(?:src|href)="([^"]*)"', page.text)}
    assert page.content == FILES["/docs"].read_bytes()
    assert len(loaded) == 5
    for path, answer in {"/docs": page, **loaded}.items():
        assert answer.status_code == 200, path
        assert {name: answer.headers[name] for name in HEADERS} == dict(HEADERS), path
        assert answer.content == FILES[path].read_bytes(), path


async def test_what_it_loads_goes_over_the_wire_small_and_not_again(stack: Stack) -> None:
    async with stack.client() as client:
        first = await client.get("/docs/swagger-ui-bundle.js")
        again = await client.get("/docs/swagger-ui-bundle.js", headers={"If-None-Match": first.headers["etag"]})
    assert first.headers["content-encoding"] == "gzip"
    assert int(first.headers["content-length"]) < len(first.content) / 3
    assert (again.status_code, again.content) == (304, b"")


async def test_nothing_else_is_there_and_nobody_can_change_it(stack: Stack) -> None:
    async with stack.client() as client:
        for path in ("/docs/nothing.js", "/docs/openapi.json", "/openapi.json.gz"):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), path
        refused = await client.post("/docs/start.js")
        front = (await client.get("/")).json()
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
    assert refused.json()["code"] == "method_not_allowed"
    assert (front["docs"], front["openapi"]) == ("/docs", "/openapi.json")


async def test_the_document_tells_what_the_services_tell(stack: Stack) -> None:
    told: dict[str, Any] = {}
    async with stack.client() as client:
        for name in ("auth", "ingest", "graph", "content", "publish"):
            told |= (await client.get(f"/{name}/v1/openapi.json")).json()["paths"]
    kept = json.loads(OPENAPI.read_text())["paths"]
    assert {path: set(told[path]) for path in told} == {
        path: set(kept[path]) for path in kept if path in told or not path.startswith(_BUILT_IN)
    }


async def test_a_call_as_the_page_makes_it_is_answered(stack: Stack) -> None:
    document = json.loads(OPENAPI.read_text())
    operation = document["paths"]["/auth/v1/me"]["get"]
    assert {"apiKey": []} in operation["security"]
    assert document["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"
    async with stack.client() as client:
        answer = await client.get("/auth/v1/me", headers={"Origin": stack.url, "Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 200
