"""Parameters that a route does not have: refused where a filter that was left out silently would mislead."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from fastapi.dependencies.models import Dependant
from starlette.requests import Request

from kgl_servicekit.errors import Invalid

if TYPE_CHECKING:
    from kgl_servicekit.http.routing import ApiRoute

_EVERYWHERE = frozenset({"workspace"})  # instead of the header


async def only_known_parameters(request: Request) -> None:
    """For `dependencies` of a router or route. Raises Invalid (422), which names the parameters that there are."""
    if not request.scope["query_string"]:
        return
    names = sorted(set(_names(cast("ApiRoute", request.scope["route"]).dependant)))
    there_are = f"there are {', '.join(names)}" if names else "there are none"
    unknown = sorted(set(request.query_params) - {*names} - _EVERYWHERE)
    errors = [
        {"pointer": f"#/{name}", "location": "query", "code": "unknown_parameter", "detail": there_are}
        for name in unknown
    ]
    if errors:
        raise Invalid(errors=errors)


def _names(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for each in dependant.dependencies:
        yield from _names(each)
