"""Cross-origin requests: listed origins may, others get no word that they might (Fetch standard)."""

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kgl_servicekit.http.exchange import header
from kgl_servicekit.http.guard import origin_of

METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
ACCEPTED = (
    "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Kgl-Workspace, traceparent, X-Request-Id"
)
EXPOSED = (
    "ETag, Location, Link, Retry-After, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Deprecation, Sunset, "
    "Idempotency-Replayed, WWW-Authenticate, X-Request-Id, traceparent, Content-Disposition"
)

_ALLOWED = {
    "Access-Control-Allow-Methods": METHODS,
    "Access-Control-Allow-Headers": ACCEPTED,
    "Access-Control-Max-Age": "600",
}


def listed_origins(values: tuple[str, ...]) -> frozenset[str]:
    """The origins of the settings; ValueError for a wildcard, `null`, or what is no origin."""
    for value in values:
        if origin_of(value) != value.lower() or not value.lower().startswith(("https://", "http://")) or "*" in value:
            raise ValueError(f"KGL_CORS_ORIGINS: {value!r} is no origin such as https://app.example.org")
    return frozenset(value.lower() for value in values)


class Cors:
    """Answers preflights and marks answers, for the listed origins alone."""

    def __init__(self, app: ASGIApp, origins: frozenset[str]) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = header(scope, b"origin") if scope["type"] == "http" else None
        if origin is None or origin not in self._origins:
            await self._app(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer["Access-Control-Allow-Origin"] = origin
                answer["Access-Control-Allow-Credentials"] = "true"
                answer["Access-Control-Expose-Headers"] = EXPOSED
                answer.add_vary_header("Origin")
            await send(message)

        if scope["method"] == "OPTIONS" and header(scope, b"access-control-request-method") is not None:
            await Response(status_code=204, headers=_ALLOWED)(scope, receive, marked)
        else:
            await self._app(scope, receive, marked)
