"""The outermost layer: trace, security headers, one log line and two metrics for each request, and no raw 500."""

import time
from functools import cache
from typing import Any

from loguru import logger
from prometheus_client import Counter, Histogram
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kgl_servicekit.http.answers import InternalError, problem_response
from kgl_servicekit.http.exchange import SCOPE_KEY, Exchange, header
from kgl_servicekit.http.trace import trace_of
from kgl_servicekit.logs import log_often

REQUESTS = Counter("kgl_http_requests_total", "Requests answered", ["service", "route", "method", "status"])
SECONDS = Histogram(
    "kgl_http_request_seconds",
    "Seconds from the first byte of a request to the last of its answer",
    ["service", "route", "method"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_GONE = 499
_BREAKS = b"\r\n\x00"
_QUIET = frozenset({"unmatched", "/health/live", "/health/ready", "/metrics"})
_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
)
_HTTPS_ONLY = (b"strict-transport-security", b"max-age=31536000")


class Observe:
    """Gives every request its exchange, and every answer its headers. Nothing passes it unanswered."""

    def __init__(self, app: ASGIApp, service: str, *, https: bool) -> None:
        self._app = app
        self._service = service
        self._headers = (*_SECURITY, _HTTPS_ONLY) if https else _SECURITY

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = trace_of(header(scope, b"traceparent"))
        exchange = scope[SCOPE_KEY] = Exchange(self._service, trace, scope["method"])
        sent = _Sent(send, exchange, self._headers)
        with logger.contextualize(trace_id=trace.trace_id):
            try:
                await self._app(_as_get(scope), receive, sent)
            except ClientDisconnect:
                sent.status = _GONE
            except Exception as error:
                logger.bind(route=exchange.route).opt(exception=error).error("request.failed")
                if sent.status:
                    raise
                await problem_response(InternalError(), trace.trace_id)(scope, receive, sent)
            finally:
                _record(exchange, sent.status or _GONE)


def _as_get(scope: Scope) -> Scope:
    """HEAD is GET without the body (RFC 9110, section 9.3.2)."""
    return {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope


class _Sent:
    """Sends an answer on with the headers of its exchange, and remembers its status."""

    def __init__(self, send: Send, exchange: Exchange, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        self._send = send
        self._exchange = exchange
        self._defaults = headers
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._complete(message)
        elif self._exchange.method == "HEAD" and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)

    def _complete(self, message: Message) -> None:
        exchange = self._exchange
        # a line break in a value would begin a header of somebody else's
        raw = [(name, value.translate(None, _BREAKS)) for name, value in message.get("headers", ())]
        present = {name for name, _ in raw}
        declared = [(name.lower().encode(), value.encode("latin-1")) for name, value in exchange.headers.items()]
        raw += [pair for pair in (*declared, *self._defaults) if pair[0] not in present]
        raw.append((b"traceparent", exchange.trace.traceparent.encode()))
        raw.append((b"x-request-id", exchange.trace.trace_id.encode()))
        if exchange.route not in _QUIET:
            varies = [value for name, value in raw if name == b"vary"]
            raw = [pair for pair in raw if pair[0] != b"vary"]
            raw.append((b"vary", b", ".join([*varies, b"Kgl-Workspace, Authorization"])))
        message["headers"] = raw


def _record(exchange: Exchange, status: int) -> None:
    seconds = time.perf_counter() - exchange.started
    method = exchange.method if exchange.method in _METHODS else "OTHER"
    requests, histogram = _metrics(exchange.service, exchange.route, method, status)
    requests.inc()
    histogram.observe(seconds)
    fields: dict[str, Any] = {
        "service": exchange.service,
        "trace_id": exchange.trace.trace_id,
        "route": exchange.route,
        "method": method,
        "status": status,
        "seconds": round(seconds, 6),
    }
    if exchange.caller is not None:
        fields["principal"] = exchange.caller.principal
        fields["workspace"] = exchange.caller.workspace_if_named
    level = "ERROR" if status == 500 else "DEBUG" if exchange.route in _QUIET else "INFO"
    log_often(level, "request.handled", fields)


@cache  # of bounded size: routes are templates, methods a fixed set
def _metrics(service: str, route: str, method: str, status: int) -> tuple[Counter, Histogram]:
    return REQUESTS.labels(service, route, method, str(status)), SECONDS.labels(service, route, method)
