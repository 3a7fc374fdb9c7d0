"""What an endpoint returns, as JSON by the route's response model."""

from typing import TYPE_CHECKING, Any

from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import ResponseValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kgl_servicekit.http.exchange import exchange_of

if TYPE_CHECKING:
    from kgl_servicekit.http.routing import ApiRoute

_BODILESS = frozenset({204, 205, 304})


def json_of(route: "ApiRoute", result: Any) -> bytes:
    """The result's JSON; raises ResponseValidationError when it is not what the route declares."""
    field = route.response_field
    assert field is not None
    value, errors = field.validate(result, {}, loc=("response",))
    if errors:
        raise ResponseValidationError(errors=errors, body=result)
    return field.serialize_json(
        value,
        include=route.response_model_include,
        exclude=route.response_model_exclude,
        by_alias=route.response_model_by_alias,
        exclude_unset=route.response_model_exclude_unset,
        exclude_defaults=route.response_model_exclude_defaults,
        exclude_none=route.response_model_exclude_none,
    )


def json_response(route: "ApiRoute", request: Request, result: Any, told: Response | None) -> Response:
    """The response of an endpoint that returned `result`, with what it set on its own `response` argument."""
    status = (told.status_code if told else None) or route.status_code or 200
    if route.response_field is None:
        response: Response = JSONResponse(jsonable_encoder(result), status)
    elif exchange_of(request).answer is not None:
        response = Response(b"", status, media_type="application/json")  # `run` has made the body already
    else:
        response = Response(json_of(route, result), status, media_type="application/json")
    if status in _BODILESS or status < 200:
        response.body = b""
    if told is not None:
        response.raw_headers.extend(told.raw_headers)
    return response
