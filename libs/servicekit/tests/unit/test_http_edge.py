"""What every answer has: a trace, security headers, a log line, two metrics; and who may read it across origins."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import Request, Response
from loguru import logger
from prometheus_client import REGISTRY
from starlette.requests import ClientDisconnect

from kgl_servicekit.http import PUBLIC, ApiRouter, create_app
from kgl_servicekit.http.testing import ServedForTests, client_of, settings_for_tests

BASE = "/edge/v1"
APP = "https://app.example.org"
router = ApiRouter()


@router.get("/things/{thing}", permission=PUBLIC)
async def read_thing(thing: str) -> dict[str, str]:
    return {"thing": thing}


@router.get("/echo", permission=PUBLIC)
async def echo(request: Request, response: Response) -> dict[str, str]:
    value = request.query_params["value"]
    response.headers["X-Echo"] = value
    response.headers["Location"] = f"/things/{value}"
    return {"echoed": "yes"}


@router.get("/own-policy", permission=PUBLIC)
async def own_policy() -> Response:
    return Response("<p>", headers={"Content-Security-Policy": "default-src 'self'"}, media_type="text/html")


@router.get("/mine", permission=None)
async def mine() -> dict[str, str]:
    return {}


@router.get("/crash", permission=PUBLIC)
async def crash() -> None:
    raise RuntimeError("no")


@router.get("/gone", permission=PUBLIC)
async def gone() -> None:
    raise ClientDisconnect


def served(**settings: Any) -> ServedForTests:
    return ServedForTests(name="edge", routers=[(BASE, router)], settings=settings_for_tests(**settings))


service = served(cors_origins=(APP,))
app = create_app(service)


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """The log lines of a test, as fields."""
    found: list[dict[str, Any]] = []
    sink = logger.add(
        lambda message: found.append({"event": message.record["message"], **message.record["extra"]}), level="DEBUG"
    )
    yield found
    logger.remove(sink)


async def ask(method: str, path: str, **headers: Any) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client_of(app, headers=sent) as client:
        return await client.request(method, BASE + path)


def count(route: str, status: str, method: str = "GET") -> float:
    labels = {"service": "edge", "route": route, "method": method, "status": status}
    return REGISTRY.get_sample_value("kgl_http_requests_total", labels) or 0.0


async def test_a_trace_is_continued_with_a_span_of_our_own() -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    answered = await ask("GET", "/things/a", traceparent=f"00-{trace}-{parent}-00")
    version, trace_id, span, flags = answered.headers["traceparent"].split("-")
    assert (version, trace_id, flags) == ("00", trace, "00")
    assert span != parent
    assert answered.headers["x-request-id"] == trace
    later = await ask("GET", "/things/a", traceparent=f"01-{trace}-{parent}-01-more")
    assert later.headers["x-request-id"] == trace


@pytest.mark.parametrize(
    "header",
    [
        "",
        "x",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
    ],
)
async def test_a_malformed_trace_is_replaced_by_a_new_one(header: str) -> None:
    answered = await ask("GET", "/things/a", traceparent=header)
    assert answered.headers["x-request-id"] not in {"0af7651916cd43dd8448eb211c80319c", "0" * 32}
    assert len(answered.headers["x-request-id"]) == 32


@pytest.mark.parametrize("path", ["/things/a", "/nothing", "/crash", "/mine"])
async def test_every_answer_has_the_security_headers(path: str) -> None:
    headers = (await ask("GET", path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert "strict-transport-security" not in headers
    assert "server" not in headers


async def test_a_page_may_have_a_policy_of_its_own() -> None:
    assert (await ask("GET", "/own-policy")).headers["content-security-policy"] == "default-src 'self'"


async def test_over_https_browsers_are_told_to_stay_there() -> None:
    async with client_of(create_app(served(public_url="https://kgl.example.org"))) as client:
        assert "max-age" in (await client.get(f"{BASE}/things/a")).headers["strict-transport-security"]


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: session=evil", "a\nX-Evil: 1", "a\rX-Evil: 1", "a\r\n\r\n<html>"])
async def test_a_line_break_in_a_reflected_value_begins_no_header(value: str) -> None:
    async with client_of(app) as client:
        answered = await client.get(f"{BASE}/echo", params={"value": value})
    assert "set-cookie" not in answered.headers
    assert "x-evil" not in answered.headers
    assert not {"\r", "\n"} & set("".join(answered.headers.values()))
    assert answered.json() == {"echoed": "yes"}


async def test_requests_are_counted_by_template_never_by_path() -> None:
    route = f"{BASE}/things/{{thing}}"
    before, unmatched = count(route, "200"), count("unmatched", "404")
    for thing in ("a", "b", "c"):
        await ask("GET", f"/things/{thing}")
    await ask("GET", f"/{uuid4()}")
    assert count(route, "200") == before + 3
    assert count("unmatched", "404") == unmatched + 1
    labels = {"service": "edge", "route": route, "method": "GET"}
    assert (REGISTRY.get_sample_value("kgl_http_request_seconds_count", labels) or 0) >= 3
    routes = {sample.labels.get("route", "") for metric in REGISTRY.collect() for sample in metric.samples}
    assert not [each for each in routes if each.startswith(f"{BASE}/things/") and each != route]


async def test_invented_methods_are_counted_as_one() -> None:
    before = count("unmatched", "405", "OTHER")
    for method in ("BREW", "TRACE", "X" * 50):
        await ask(method, "/things/a")
    assert count("unmatched", "405", "OTHER") == before + 3


async def test_each_request_has_one_line_with_its_fields(lines: list[dict[str, Any]]) -> None:
    workspace = uuid4()
    headers = service.authority.user(workspace)
    async with client_of(app, headers=headers) as client:
        answered = await client.get(f"{BASE}/mine?secret=s3cret-value")
    (line,) = [line for line in lines if line["event"] == "request.handled"]
    assert line["route"] == f"{BASE}/mine"
    assert (line["service"], line["method"], line["status"]) == ("edge", "GET", 200)
    assert line["trace_id"] == answered.headers["x-request-id"]
    assert line["principal"].startswith("user:")
    assert line["workspace"] == workspace
    assert 0 < line["seconds"] < 10
    assert "s3cret-value" not in str(lines)
    assert headers["Authorization"] not in str(lines)


async def test_a_crash_is_logged_with_its_trace(lines: list[dict[str, Any]]) -> None:
    answered = await ask("GET", "/crash")
    (line,) = [line for line in lines if line["event"] == "request.failed"]
    assert line["trace_id"] == answered.json()["trace_id"]


async def test_a_client_that_went_away_is_not_our_failure(lines: list[dict[str, Any]]) -> None:
    before = count(f"{BASE}/gone", "499")
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        with pytest.raises(AssertionError):  # the transport insists on an answer
            await client.get(f"{BASE}/gone")
    assert count(f"{BASE}/gone", "499") == before + 1
    assert not [line for line in lines if line["event"] == "request.failed"]


async def test_a_listed_origin_may_read_answers_errors_too_and_a_preflight_says_what_is_allowed() -> None:
    for path in ("/things/a", "/nothing", "/crash", "/mine"):
        headers = (await ask("GET", path, Origin=APP)).headers
        assert headers["access-control-allow-origin"] == APP
        assert headers["access-control-allow-credentials"] == "true"
        assert "ETag" in headers["access-control-expose-headers"]
        assert "Origin" in headers["vary"]
    preflight = await ask("OPTIONS", "/things/a", Origin=APP, Access_Control_Request_Method="POST")
    assert (preflight.status_code, preflight.content) == (204, b"")
    assert preflight.headers["access-control-allow-origin"] == APP
    assert "PATCH" in preflight.headers["access-control-allow-methods"]
    for name in ("Kgl-Workspace", "Idempotency-Key", "If-Match", "Authorization"):
        assert name in preflight.headers["access-control-allow-headers"]


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "https://evil.example",
        "http://app.example.org",
        "https://app.example.org.evil.example",
        "https://evilapp.example.org",
        "https://sub.app.example.org",
        "https://app.example.org:8443",
        "https://app.example.org/",
        "HTTPS://APP.EXAMPLE.ORG",
        "*",
        "",
    ],
)
async def test_every_other_origin_gets_no_word_that_it_might(origin: str) -> None:
    for answered in (
        await ask("GET", "/things/a", Origin=origin),
        await ask("OPTIONS", "/things/a", Origin=origin, Access_Control_Request_Method="POST"),
    ):
        assert not [name for name in answered.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "listed", ["*", "null", "https://*.example.org", "https://app.example.org/", "app.example.org", "file://x", ""]
)
def test_origins_that_must_not_be_listed_are_refused_at_the_start(listed: str) -> None:
    with pytest.raises(ValueError, match="KGL_CORS_ORIGINS"):
        create_app(served(cors_origins=(APP, listed)))
