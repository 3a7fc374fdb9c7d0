"""Which route a request is for: a look at the few that can be, instead of all."""

from collections import defaultdict
from typing import Any

from starlette.routing import BaseRoute, Route, Router
from starlette.types import Receive, Scope, Send

from kgl_servicekit.http.routing import ApiRoute


class Dispatch:
    """Finds planned routes by method, number of segments and pattern, and leaves all else to the router.

    The first route that matches is the one, as in the router: so a route that is not planned, or whose parameters
    may hold slashes, sends every request that could be its own to the router.
    """

    def __init__(self, router: Router) -> None:
        self._router = router
        self._routes: dict[tuple[str, int], list[Route]] = defaultdict(list)
        routes = [route for route in router.routes if isinstance(route, Route)]
        if all(_has_fixed_depth(route) for route in routes):
            for route in routes:
                for method in route.methods or ():
                    self._routes[method, route.path.count("/")].append(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope.get("root_path"):
            path = scope["path"]
            for route in self._routes.get((scope["method"], path.count("/")), ()):
                found = route.path_regex.match(path)
                if found is not None:
                    if not isinstance(route, ApiRoute) or not route.is_planned:
                        break
                    scope["path_params"] = _converted(route, found.groupdict())
                    scope["endpoint"], scope["route"], scope["router"] = route.endpoint, route, self._router
                    await route.app(scope, receive, send)
                    return
        await self._router(scope, receive, send)


def _has_fixed_depth(route: BaseRoute) -> bool:
    return isinstance(route, Route) and all(each.regex == "[^/]+" for each in route.param_convertors.values())


def _converted(route: Route, found: dict[str, str]) -> dict[str, Any]:
    return {name: route.param_convertors[name].convert(value) for name, value in found.items()}
