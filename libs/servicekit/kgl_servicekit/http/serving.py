"""How one request goes through: caller, limit, body, endpoint, headers. In this order."""

import asyncio
import math
from collections.abc import Callable, Coroutine
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope

from kgl_servicekit.errors import BadRequest, TooMany, Unavailable
from kgl_servicekit.http.body import UPLOAD_OVERHEAD, KitRequest, check_length, read_body
from kgl_servicekit.http.conditional import NotModified, etag_of, is_known
from kgl_servicekit.http.exchange import Answer, Exchange, found_exchange
from kgl_servicekit.http.guard import READING, authenticate
from kgl_servicekit.http.rules import PUBLIC, Rules
from kgl_servicekit.http.run import Replay

if TYPE_CHECKING:
    from kgl_servicekit.http.app import Kit
    from kgl_servicekit.http.routing import ApiRoute

Handle = Callable[[Request], Coroutine[Any, Any, Response]]
_LARGEST_TAGGED = 1024 * 1024
_KEPT_BY_304 = ("etag", "cache-control", "content-location", "expires", "vary")  # RFC 9110, section 15.4.5


class NulRefused(BadRequest, code="nul_refused"):
    """The address holds the character U+0000, which nothing here contains."""


class DeadlineExceeded(Unavailable, code="deadline_exceeded"):
    """This took too long and was given up; try again after Retry-After."""


async def serve(route: "ApiRoute", scope: Scope, receive: Receive, handle: Handle) -> Response:
    """Answer a request to a route; raises problems, which are answered further out."""
    kit: Kit = scope["app"].state.kit
    rules, exchange = route.rules, found_exchange(scope)
    exchange.route = route.path
    exchange.headers.update(route.reading_headers if exchange.method in READING else route.writing_headers)
    if "\x00" in scope["path"] or b"%00" in scope["query_string"]:
        raise NulRefused
    limit = kit.settings.max_upload + UPLOAD_OVERHEAD if rules.upload else kit.settings.max_body
    ours = KitRequest(scope, receive, limit)
    if rules.permission is not PUBLIC:
        exchange.caller = await authenticate(ours, rules, kit.authority, kit.origins)
        _spend(kit, exchange, rules.cost)
    check_length(ours, limit)
    try:
        async with asyncio.timeout(rules.deadline) as deadline:
            await read_body(ours, route)
            response = await handle(ours)
    except Replay as replay:
        return _replayed(replay.answer)
    except NotModified as known:
        return Response(status_code=304, headers={"ETag": known.etag})
    except TimeoutError as late:
        if deadline.expired():
            raise DeadlineExceeded(retry_after=1) from late
        raise
    return _finished(route, ours, exchange, response)


def kit_of(request: Request) -> "Kit":
    """The parts of the application that the request came to."""
    kit: Kit = request.app.state.kit
    return kit


def declared_headers(rules: Rules, *, reading: bool) -> dict[str, str]:
    """What every answer of a route says, as its rules have it."""
    cache = rules.cache if reading else "no-store"
    if cache is None:
        cache = "private, no-cache"
    headers = {"Cache-Control": f"private, max-age={cache}" if isinstance(cache, int) else cache}
    if rules.deprecation is not None:
        headers["Deprecation"] = f"@{int(rules.deprecation.since.timestamp())}"
        headers["Sunset"] = format_datetime(rules.deprecation.sunset, usegmt=True)
    return headers


def _spend(kit: "Kit", exchange: Exchange, cost: int) -> None:
    assert exchange.caller is not None
    spent = kit.rates.spend(exchange.caller.principal, cost)
    exchange.headers["RateLimit-Limit"] = str(spent.limit)
    exchange.headers["RateLimit-Remaining"] = str(spent.remaining)
    exchange.headers["RateLimit-Reset"] = str(math.ceil(spent.reset))
    if spent.wait > 0:
        raise TooMany(retry_after=spent.wait)


def _replayed(answer: Answer) -> Response:
    return _response(answer, {"Idempotency-Replayed": "true"})


def _response(answer: Answer, more: dict[str, str]) -> Response:
    media_type = "application/json" if answer.body else None
    return Response(answer.body, answer.status, {**answer.headers, **more}, media_type)


def _finished(route: "ApiRoute", request: Request, exchange: Exchange, response: Response) -> Response:
    """The endpoint's response with what `run` and the rules say of it."""
    if exchange.answer is not None and (route.response_field is not None or exchange.answer.status == 204):
        response = _with_headers_of(response, _response(exchange.answer, {}))
    for name, value in exchange.reply.headers.items():
        response.headers[name] = value
    if exchange.reply.status is not None:
        response.status_code = exchange.reply.status
    if exchange.method in READING and response.status_code == 200:
        return _conditional(request, response)
    return response


def _with_headers_of(endpoints: Response, ours: Response) -> Response:
    """Keep what the endpoint set itself (cookies, background work), but not its body."""
    present = {name for name, _ in ours.raw_headers} | {b"content-length", b"content-type"}
    ours.raw_headers.extend(pair for pair in endpoints.raw_headers if pair[0] not in present)
    ours.background = endpoints.background
    return ours


def _conditional(request: Request, response: Response) -> Response:
    """Tag an answer by its bytes if it has no tag, and leave the body out if the client has it."""
    body = getattr(response, "body", None)
    etag = response.headers.get("etag")
    if etag is None and isinstance(body, bytes) and len(body) <= _LARGEST_TAGGED:
        etag = response.headers["etag"] = etag_of(body)
    if etag is None or not is_known(request, etag):
        return response
    kept = {name: response.headers[name] for name in _KEPT_BY_304 if name in response.headers}
    return Response(status_code=304, headers=kept)
