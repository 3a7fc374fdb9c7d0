"""The application of a service: its routers, behind everything that all APIs share."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIWebSocketRoute
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from kgl_servicekit.errors import Problem
from kgl_servicekit.http.answers import answer_http, answer_invalid, answer_problem
from kgl_servicekit.http.cors import Cors, listed_origins
from kgl_servicekit.http.dispatch import Dispatch
from kgl_servicekit.http.guard import origin_of
from kgl_servicekit.http.health import Check, mount_health
from kgl_servicekit.http.observe import Observe
from kgl_servicekit.http.openapi import describe
from kgl_servicekit.http.rates import RateLimiter
from kgl_servicekit.http.routing import ApiRoute
from kgl_servicekit.http.run import Runs
from kgl_servicekit.identity.checked import Authority
from kgl_servicekit.identity.replicated import replicated_authority
from kgl_servicekit.settings import ServiceSettings


class Served(Protocol):
    """What an API is made from: the part of a service that it needs."""

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> ServiceSettings: ...
    @property
    def database(self) -> Runs: ...
    @property
    def routers(self) -> Sequence[tuple[str, APIRouter]]: ...
    @property
    def outside(self) -> Any: ...
    @property
    def authority(self) -> Authority | None: ...
    @property
    def checks(self) -> Mapping[str, Check]: ...
    def opened(self) -> AbstractAsyncContextManager[None]: ...


@dataclass(frozen=True, slots=True)
class Kit:
    """What the kit needs while it serves; found at `app.state.kit`."""

    settings: ServiceSettings
    authority: Authority
    rates: RateLimiter
    origins: frozenset[str]


class _Application(FastAPI):
    """FastAPI with the layers that we use and no others.

    Traces, metrics, the limit of bodies and the last answer to an error are ours (`Observe`, `serve`); what is
    left to FastAPI (`ApiRoute` without a plan, WebSockets) brings its own exit stacks.
    """

    def build_middleware_stack(self) -> ASGIApp:
        app: ASGIApp = ExceptionMiddleware(Dispatch(self.router), handlers=self.exception_handlers)
        for layer, args, options in reversed(self.user_middleware):
            app = layer(app, *args, **options)
        return app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
            return
        if self.middleware_stack is None:
            self.middleware_stack = self.build_middleware_stack()
        scope["app"] = self
        await self.middleware_stack(scope, receive, send)


def create_app(service: Served) -> FastAPI:
    """The HTTP application of a service. Endpoints find its stores at `request.app.state.outside`.

    Raises ValueError for origins that must not be listed, TypeError for a route without rules.
    """
    settings = service.settings
    listed = listed_origins(settings.cors_origins)
    replicated = None if service.authority else replicated_authority(service.database, settings)
    authority = service.authority or replicated
    assert authority is not None
    middleware = [
        Middleware(Cors, origins=listed),
        Middleware(Observe, service=service.name, https=settings.public_url.startswith("https://")),
    ]

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service.opened():
            yield
        if replicated is not None:
            await replicated.close()

    app = _Application(
        title=f"kgl {service.name}",
        version=version("kgl-servicekit"),
        openapi_url=f"/{service.name}/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        middleware=middleware,
        exception_handlers={
            Problem: answer_problem,
            RequestValidationError: answer_invalid,
            HTTPException: answer_http,
        },
    )
    app.state.kit = Kit(
        settings,
        authority,
        RateLimiter(settings.rate_limit_per_minute),
        listed | {origin_of(settings.public_url)},
    )
    app.state.database = service.database
    app.state.outside = service.outside
    mount_health(app, service.name, {"database": service.database.ping, **service.checks})
    for prefix, router in service.routers:
        _mount(app, prefix, router)
    describe(app)
    return app


def _mount(app: FastAPI, prefix: str, router: APIRouter) -> None:
    """Put a router's routes below a prefix, flat: each request is matched once, against whole templates."""
    for route in router.routes:
        if isinstance(route, ApiRoute):
            app.router.routes.append(route.under(prefix))
        elif isinstance(route, APIWebSocketRoute):
            app.router.add_api_websocket_route(prefix + route.path, route.endpoint, name=route.name)
        else:
            raise TypeError(f"{prefix}: {route} is no route of an ApiRouter")
