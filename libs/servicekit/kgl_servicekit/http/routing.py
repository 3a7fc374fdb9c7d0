"""Routes that say who may use them: a router whose every route names its permission."""

from collections.abc import Callable, Sequence
from enum import Enum
from functools import cached_property
from typing import Any, TypeVar

from fastapi import APIRouter
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from kgl_servicekit.errors import Problem
from kgl_servicekit.http.openapi import documented, operation_id
from kgl_servicekit.http.plan import plan_of
from kgl_servicekit.http.rules import CacheRule, Deprecation, Permission, Rules
from kgl_servicekit.http.serving import Handle, declared_headers, serve
from kgl_servicekit.identity.permissions import is_instance_permission, is_permission

F = TypeVar("F", bound=Callable[..., Any])


class _Undeclared(Enum):
    PERMISSION = "undeclared"


class ApiRoute(APIRoute):
    """A route that checks its caller before it reads the body, and answers as the kit promises."""

    rules: Rules

    @cached_property
    def reading_headers(self) -> dict[str, str]:
        """The headers of all answers to GET and HEAD."""
        return declared_headers(self.rules, reading=True)

    @cached_property
    def writing_headers(self) -> dict[str, str]:
        """The headers of all other answers."""
        return declared_headers(self.rules, reading=False)

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self._options = options
        super().__init__(path, endpoint, **options)
        self._plan = plan_of(self)
        self.app = AsyncExitStackMiddleware(self.app) if self._plan is None else self._answer

    @property
    def is_planned(self) -> bool:
        """Whether it is answered without FastAPI's solver."""
        return self._plan is not None

    def get_route_handler(self) -> Handle:
        """How FastAPI answers; for what has no plan."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            return await serve(self, request.scope, request.receive, handle)

        return guarded

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._plan is not None
        response = await serve(self, scope, receive, self._plan.handle)
        await response(scope, receive, send)

    def under(self, prefix: str) -> "ApiRoute":
        """The same route below a prefix, with its documentation complete."""
        path = prefix + self.path
        options = documented(self.rules, path, self.methods or set(), self._options)
        options["operation_id"] = self.operation_id or operation_id(path, self.name)
        route = ApiRoute(path, self.endpoint, **options)
        route.rules = self.rules
        return route


class ApiRouter(APIRouter):
    """The routes of one resource. A route that names no permission is an error when the module is imported."""

    def __init__(self, prefix: str = "", tags: Sequence[str] = (), **options: Any) -> None:
        super().__init__(prefix=prefix, tags=list(tags), route_class=ApiRoute, redirect_slashes=False, **options)

    def add_api_route(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        permission: Permission | _Undeclared = _Undeclared.PERMISSION,
        or_instance: str | None = None,
        problems: Sequence[type[Problem]] = (),
        cache: CacheRule | None = None,
        upload: bool = False,
        deadline: float | None = 30.0,
        cost: int = 1,
        secret_answer: bool = False,
        deprecation: Deprecation | None = None,
        **options: Any,
    ) -> None:
        """Add a route; `Rules` says what its own arguments mean, the others are FastAPI's."""
        if isinstance(permission, _Undeclared):
            raise TypeError(f"{self.prefix}{path} does not say who may use it: permission=...")
        if isinstance(permission, str) and not is_permission(permission):
            raise TypeError(f"{self.prefix}{path} demands {permission!r}, which is no permission")
        if or_instance is not None and not is_instance_permission(or_instance):
            raise TypeError(f"{self.prefix}{path} demands {or_instance!r}, which is no permission of the instance")
        super().add_api_route(path, endpoint, deprecated=deprecation is not None or None, **options)
        route = self.routes[-1]
        assert isinstance(route, ApiRoute)
        route.rules = Rules(
            permission=permission,
            or_instance=or_instance,
            problems=tuple(problems),
            cache=cache,
            upload=upload,
            deadline=deadline,
            cost=cost,
            secret_answer=secret_answer,
            deprecation=deprecation,
        )

    def api_route(self, path: str, **options: Any) -> Callable[[F], F]:
        def declare(endpoint: F) -> F:
            self.add_api_route(path, endpoint, **options)
            return endpoint

        return declare

    def get(self, path: str, **options: Any) -> Callable[[F], F]:
        """Declare a read; see `add_api_route`."""
        return self.api_route(path, methods=["GET"], **options)

    def post(self, path: str, **options: Any) -> Callable[[F], F]:
        """Declare a command; see `add_api_route`."""
        return self.api_route(path, methods=["POST"], **options)

    def put(self, path: str, **options: Any) -> Callable[[F], F]:
        """Declare a replacement; see `add_api_route`."""
        return self.api_route(path, methods=["PUT"], **options)

    def patch(self, path: str, **options: Any) -> Callable[[F], F]:
        """Declare a change; see `add_api_route`."""
        return self.api_route(path, methods=["PATCH"], **options)

    def delete(self, path: str, **options: Any) -> Callable[[F], F]:
        """Declare a removal; see `add_api_route`."""
        return self.api_route(path, methods=["DELETE"], **options)
