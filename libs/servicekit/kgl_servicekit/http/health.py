"""What operators' tools ask: is it alive, can it work, what does it count. Never reached through the edge."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from loguru import logger
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kgl_servicekit.http.exchange import exchange_of
from kgl_servicekit.http.observe import Observe

Check = Callable[[], Awaitable[None]]
Endpoint = Callable[[Request], Awaitable[Response]]
DEADLINE = 1.25
"""Seconds for all checks, so that whoever asks is told within 2 s of a server's going away, on a busy machine too."""


@dataclass(frozen=True, slots=True)
class OptionalCheck:
    """A check of something without which the service still does useful work."""

    check: Check

    async def __call__(self) -> None:
        await self.check()


@dataclass(frozen=True, slots=True)
class Dependency:
    """How one dependency is at the moment. Why it is down stands in the log alone."""

    up: bool
    required: bool
    seconds: float


def health_app(service: str, checks: Mapping[str, Check]) -> Starlette:
    """Nothing but what `mount_health` adds: for a process without an API."""
    app = Starlette(middleware=[Middleware(Observe, service=service, https=False)])
    mount_health(app, service, checks)
    return app


def mount_health(app: Starlette, service: str, checks: Mapping[str, Check]) -> None:
    """Add /health/live, /health/ready and /metrics at the root."""

    async def live(request: Request) -> Response:
        return _json(200, {"service": service, "status": "live"})

    async def ready(request: Request) -> Response:
        names = list(checks)
        found = dict(zip(names, await asyncio.gather(*(_ask(name, checks[name]) for name in names)), strict=True))
        is_ready = all(each.up for each in found.values() if each.required)
        states = {
            name: {"up": each.up, "required": each.required, "seconds": each.seconds} for name, each in found.items()
        }
        body = {"service": service, "status": "ready" if is_ready else "unready", "dependencies": states}
        return _json(200 if is_ready else 503, body)

    async def metrics(request: Request) -> Response:
        return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    for path, endpoint in (("/health/live", live), ("/health/ready", ready), ("/metrics", metrics)):
        app.router.routes.append(Route(path, _labelled(path, endpoint), methods=["GET"], include_in_schema=False))


def _labelled(path: str, endpoint: Endpoint) -> Endpoint:
    async def labelled(request: Request) -> Response:
        exchange_of(request).route = path
        return await endpoint(request)

    return labelled


async def _ask(name: str, check: Check) -> Dependency:
    started = time.perf_counter()
    up = True
    try:
        async with asyncio.timeout(DEADLINE):
            await check()
    except Exception as error:
        up = False
        logger.bind(dependency=name).opt(exception=error).warning("health.dependency_down")
    return Dependency(up, not isinstance(check, OptionalCheck), round(time.perf_counter() - started, 4))


def _json(status: int, body: Any) -> Response:
    headers = {"Cache-Control": "no-store", **({"Retry-After": "2"} if status == 503 else {})}
    return Response(orjson.dumps(body), status, headers, "application/json")
