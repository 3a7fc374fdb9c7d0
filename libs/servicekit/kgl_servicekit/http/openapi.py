"""OpenAPI 3.1 as our routes have it: problems, credentials, and the headers that the kit handles."""

from collections import defaultdict
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from kgl_servicekit.errors import (
    BadRequest,
    Forbidden,
    Invalid,
    NotFound,
    Problem,
    TooLarge,
    TooMany,
    Unauthorized,
    Unavailable,
    UnsupportedType,
)
from kgl_servicekit.http.answers import MEDIA_TYPE
from kgl_servicekit.http.idempotency import KeyReused, RequestInFlight
from kgl_servicekit.http.rules import PUBLIC, SESSION, Rules

_PROBLEM = {
    "type": "object",
    "description": "RFC 9457; further members depend on `code`.",
    "required": ["type", "title", "status", "detail", "code", "trace_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what to do about it"},
        "code": {"type": "string", "description": "stable; decide by it"},
        "trace_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "pointer": {"type": "string", "description": "JSON pointer, such as #/title"},
                    "location": {"type": "string", "enum": ["body", "query", "path", "header", "cookie"]},
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}
# as RFC 9110 has them; Python before 3.13 has older names
_PHRASES = {413: "Content Too Large", 422: "Unprocessable Content"}
_SECURITY = {
    "accessToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "apiKey": {"type": "http", "scheme": "bearer", "bearerFormat": "kgl_<id>_<secret>"},
}


def operation_id(path: str, name: str) -> str:
    """A name for the operation that stays unique when the documents of all services are merged."""
    return f"{path.split('/')[1]}_{name}"


def documented(rules: Rules, path: str, methods: set[str], options: dict[str, Any]) -> dict[str, Any]:
    """The options of a route with all that its rules say about requests and answers."""
    extra = dict(options.get("openapi_extra") or {})
    parameters = [*extra.get("parameters", ()), *_parameters(rules, methods)]
    if parameters:
        extra["parameters"] = parameters
    extra["security"] = [] if rules.permission is PUBLIC else [{name: []} for name in _SECURITY]
    if isinstance(rules.permission, str):
        extra["x-kgl-permission"] = rules.permission
    if rules.or_instance is not None:
        extra["x-kgl-instance-permission"] = rules.or_instance
    responses = {**_responses(rules, path, methods), **(options.get("responses") or {})}
    return {**options, "openapi_extra": extra, "responses": responses}


def _parameters(rules: Rules, methods: set[str]) -> list[dict[str, Any]]:
    found = []
    if rules.permission not in (PUBLIC, SESSION):
        found.append(_header("Kgl-Workspace", "id or slug of the workspace; API keys imply theirs"))
    if "POST" in methods and rules.permission is not PUBLIC:
        found.append(_header("Idempotency-Key", "the same key and body have one effect and one answer, for 24 hours"))
    if "GET" in methods:
        found.append(_header("If-None-Match", "answers 304 when the ETag is still this one"))
    return found


def _header(name: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string", "maxLength": 255},
    }


def _responses(rules: Rules, path: str, methods: set[str]) -> dict[int | str, dict[str, Any]]:
    problems: list[type[Problem]] = [BadRequest, Invalid, TooMany, Unavailable, TooLarge, *rules.problems]
    if rules.permission is not PUBLIC:
        problems += [Unauthorized, Forbidden]
        if "POST" in methods:
            problems += [RequestInFlight, KeyReused]
    if "{" in path:
        problems.append(NotFound)
    if methods & {"POST", "PUT", "PATCH"}:
        problems.append(UnsupportedType)
    by_status: dict[int, list[type[Problem]]] = defaultdict(list)
    for problem in problems:
        by_status[problem.status].append(problem)
    found: dict[int | str, dict[str, Any]] = {
        status: _problem_response(status, of_status) for status, of_status in sorted(by_status.items())
    }
    if "GET" in methods:
        found[304] = {"description": "Not Modified: the client has this version"}
    return found


def _problem_response(status: int, problems: list[type[Problem]]) -> dict[str, Any]:
    lines = [f"- `{problem.code}`: {problem.sentence}" for problem in dict.fromkeys(problems)]
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": "\n".join([_PHRASES.get(status) or HTTPStatus(status).phrase, "", *lines]),
        "content": {MEDIA_TYPE: {"schema": schema}},
    }


def describe(app: FastAPI) -> None:
    """Have the application describe itself with our schemas."""

    def made() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, openapi_version=app.openapi_version, routes=app.routes
            )
            components = schema.setdefault("components", {})
            schemas = components.setdefault("schemas", {})
            schemas["Problem"] = _PROBLEM
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            components["securitySchemes"] = _SECURITY
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = made  # type: ignore[method-assign]
