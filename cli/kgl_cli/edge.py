"""The edge of an embedded system: the paths of nginx, in one process."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

import orjson
from starlette.responses import JSONResponse, RedirectResponse, Response

from kgl_cli import docs

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]


class Edge:
    """Sends a request to the service whose prefix its path begins with.

    What an nginx in front would do besides: other hosts than that of the public URL are redirected, metrics are
    not shown, and the documentation of the APIs is.
    """

    def __init__(self, public_url: str, routes: Mapping[str, App]) -> None:
        self._public_url = public_url
        self._host = urlsplit(public_url).netloc
        self._routes = dict(routes)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] not in {"http", "websocket"}:
            return
        app = self._routes.get(scope["path"].split("/", 2)[1])
        if scope["type"] == "http":
            answer = self._own_answer(scope, known=app is not None)
            if answer is not None:
                await answer(scope, receive, send)
                return
        if app is None:
            await send({"type": "websocket.close", "code": 4404})
            return
        await app(scope, receive, send)

    def _own_answer(self, scope: Scope, *, known: bool) -> Response | None:
        host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
        if host != self._host:
            if scope["method"] not in {"GET", "HEAD"}:
                return _problem(421, "wrong_host", f"Send the request to {self._public_url}.")
            query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
            path = "/" + scope["path"].lstrip("/")
            return RedirectResponse(f"{self._public_url}{path}{query}", status_code=308)
        if scope["path"] == "/":
            apis = [f"/{name}/v1" for name in sorted(self._routes)]
            told = {"name": "Knowledge Graph Lab", "docs": "/docs", "openapi": "/openapi.json", "apis": apis}
            return Response(orjson.dumps(told), media_type="application/json")
        if scope["path"] == "/health":
            return JSONResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})
        if scope["path"] in docs.FILES:
            if scope["method"] not in {"GET", "HEAD"}:
                return _problem(405, "method_not_allowed", "This address does not take this method.", Allow="GET, HEAD")
            return docs.answer(scope)
        if not known:
            return _problem(404, "route_unknown", "There is nothing at this path; GET / lists the APIs.")
        return None


def _problem(status: int, code: str, detail: str, **headers: str) -> Response:
    return Response(
        orjson.dumps(
            {"type": "about:blank", "title": code.replace("_", " "), "status": status, "code": code, "detail": detail}
        ),
        status_code=status,
        headers=headers,
        media_type="application/problem+json",
    )
