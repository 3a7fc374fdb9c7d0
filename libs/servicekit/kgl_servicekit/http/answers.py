"""Errors as answers: every one is problem+json (RFC 9457), and none says how we are built."""

import math
import re
from collections.abc import Mapping, Sequence
from http.client import responses
from typing import Any
from urllib.parse import quote

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from kgl_servicekit.errors import Invalid, NotFound, Problem, TooLarge, Unauthorized, Unavailable
from kgl_servicekit.http.exchange import exchange_of
from kgl_servicekit.http.strict_json import MalformedJson

MEDIA_TYPE = "application/problem+json"
_MOST_ERRORS = 50
_LOCATIONS = {"body", "query", "path", "header", "cookie"}


class RouteMissing(NotFound, code="route_not_found"):
    """There is no such address; the API's description lists all."""


class MethodRefused(Problem, code="method_not_allowed", status=405):
    """This address does not take this method; Allow lists those that it takes."""


class InternalError(Problem, code="internal_error", status=500):
    """Something went wrong here; repeat the request, and report `trace_id` if it goes on."""


def problem_body(problem: Problem, trace_id: str) -> dict[str, Any]:
    """The members of a problem document."""
    code = type(problem).code
    return {
        "type": f"urn:kgl:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": type(problem).status,
        "detail": problem.detail,
        "code": code,
        "trace_id": trace_id,
        **problem.extension(),
    }


def problem_response(problem: Problem, trace_id: str, headers: Mapping[str, str] | None = None) -> Response:
    """A problem as it is answered, with the headers that its status asks for."""
    sent = {"Cache-Control": "no-store", **(headers or {})}
    if isinstance(problem, Unauthorized):
        error = "" if problem.code == "credential_missing" else ', error="invalid_token"'
        sent["WWW-Authenticate"] = f'Bearer realm="kgl"{error}'
    wait = getattr(problem, "retry_after", None)
    if wait is None and isinstance(problem, Unavailable):
        wait = 1
    if wait is not None:
        sent["Retry-After"] = str(max(1, math.ceil(wait)))
    content = orjson.dumps(problem_body(problem, trace_id), default=str)
    return Response(content, type(problem).status, sent, MEDIA_TYPE)


async def answer_problem(request: Request, error: Exception) -> Response:
    """Answer a problem that was raised on purpose."""
    assert isinstance(error, Problem)
    return problem_response(error, exchange_of(request).trace.trace_id)


async def answer_invalid(request: Request, error: Exception) -> Response:
    """Answer what a schema refused, each place by its JSON pointer (RFC 6901)."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    problem: Problem = Invalid(errors=[_place(each) for each in found[:_MOST_ERRORS]])
    if len(found) == 1 and found[0]["type"] == "json_invalid":
        problem = MalformedJson(reason="it cannot be read")
    return problem_response(problem, exchange_of(request).trace.trace_id)


async def answer_http(request: Request, error: Exception) -> Response:
    """Answer what the framework refused: unknown addresses, methods, and the like."""
    assert isinstance(error, HTTPException)
    problem = _of_status(error.status_code)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(allowed_methods(request))
    return problem_response(problem, exchange_of(request).trace.trace_id, headers)


def allowed_methods(request: Request) -> list[str]:
    """The methods of all routes at the address of a request."""
    path = request.scope["path"]
    routes: Sequence[Any] = request.app.router.routes
    at = [route for route in routes if (regex := getattr(route, "path_regex", None)) and regex.match(path)]
    methods = {method for route in at for method in getattr(route, "methods", None) or ()}
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


def _of_status(status: int) -> Problem:
    match status:
        case 404:
            return RouteMissing()
        case 405:
            return MethodRefused()
        case 413:
            return TooLarge()
        case 500:
            return InternalError()
    phrase = responses.get(status, "Refused")

    class Refused(Problem, code=re.sub("[^a-z]+", "_", phrase.lower()), status=status):
        pass

    return Refused(f"{phrase}.")


def _place(error: Any) -> dict[str, str]:
    where = [str(part) for part in error["loc"]]
    location = where.pop(0) if where and where[0] in _LOCATIONS else "body"
    pointer = "/".join(quote(part.replace("~", "~0").replace("/", "~1"), safe="~!$&'()*+,;=:@") for part in where)
    return {
        "pointer": f"#/{pointer}" if where else "#",
        "location": location,
        "code": str(error["type"]),
        "detail": str(error["msg"])[:300],
    }
