"""How the arguments of an endpoint are made: worked out once for each route, not at every request.

The rules, the validators and the errors are FastAPI's own, and its description of a route is what is read; only
the questions what a parameter is and where it comes from are answered when the application is made. What is not
known here (forms, models of parameters, lists, `yield`, background tasks, security schemes) is left to FastAPI.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import params
from fastapi._compat import ModelField, field_annotation_is_sequence, get_missing_field_error
from fastapi.datastructures import DefaultPlaceholder
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from kgl_servicekit.http.result import json_response

if TYPE_CHECKING:
    from kgl_servicekit.http.routing import ApiRoute

Errors = list[Any]
_NOTHING: Mapping[str, str] = {}


class _Unplanned(Exception):
    """Something that FastAPI has to solve."""


@dataclass(slots=True)
class _Asked:
    """One request while its arguments are made; `response` takes the headers and cookies that are set on it."""

    request: Request
    errors: Errors
    solved: dict[Any, Any]
    response: Response | None = None

    def answering(self) -> Response:
        if self.response is None:
            self.response = Response()
            del self.response.headers["content-length"]
            self.response.status_code = None  # type: ignore[assignment]  # not decided
        return self.response


@dataclass(frozen=True, slots=True)
class _Value:
    """One parameter: its argument, its name in the request, and what it is when it is not there."""

    argument: str
    alias: str
    field: ModelField
    place: str
    required: bool
    default: Any

    @classmethod
    def of(cls, field: ModelField) -> "_Value":
        info = field.field_info
        of_model = inspect.isclass(info.annotation) and issubclass(info.annotation, BaseModel)
        unusual = info.validate_default or info.default_factory or info.validation_alias not in (None, field.alias)
        if not isinstance(info, params.Param) or of_model or unusual or field_annotation_is_sequence(info.annotation):
            raise _Unplanned
        default = None if info.is_required() else field.default
        if deepcopy(default) is not default:
            raise _Unplanned
        return cls(field.name, field.alias, field, info.in_.value, info.is_required(), default)

    def read(self, found: Mapping[str, Any], values: dict[str, Any], errors: Errors) -> None:
        value = found.get(self.alias)
        if value is not None:
            value, wrong = self.field.validate(value, values, loc=(self.place, self.alias))
            if wrong:
                errors.extend(wrong)
                return
        elif self.required:
            errors.append(get_missing_field_error(loc=(self.place, self.alias)))
            return
        else:
            value = self.default
        values[self.argument] = value


@dataclass(frozen=True, slots=True)
class _Call:
    """A dependency: the argument that it is for (None: for its effect), and the arguments that it takes."""

    argument: str | None
    function: Callable[..., Any]
    arguments: "_Arguments"
    is_async: bool
    once: bool

    async def solve(self, asked: _Asked, values: dict[str, Any]) -> None:
        before = len(asked.errors)
        given = await self.arguments.make(asked)
        if len(asked.errors) > before:
            return
        if self.once and self.function in asked.solved:
            result = asked.solved[self.function]
        elif self.is_async:
            result = asked.solved[self.function] = await self.function(**given)
        else:
            result = asked.solved[self.function] = await run_in_threadpool(self.function, **given)
        if self.argument is not None:
            values[self.argument] = result


@dataclass(frozen=True, slots=True)
class _Arguments:
    """All arguments of one function."""

    calls: tuple[_Call, ...]
    path: tuple[_Value, ...]
    query: tuple[_Value, ...]
    header: tuple[_Value, ...]
    cookie: tuple[_Value, ...]
    requests: tuple[str, ...]
    response: str | None

    @classmethod
    def of(cls, dependant: Dependant) -> "_Arguments":
        if dependant.background_tasks_param_name or dependant.security_scopes_param_name or dependant.own_oauth_scopes:
            raise _Unplanned
        requests = (dependant.http_connection_param_name, dependant.request_param_name)
        return cls(
            tuple(_call_of(each) for each in dependant.dependencies),
            _values_of(dependant.path_params),
            _values_of(dependant.query_params),
            _values_of(dependant.header_params),
            _values_of(dependant.cookie_params),
            tuple(name for name in requests if name),
            dependant.response_param_name,
        )

    async def make(self, asked: _Asked) -> dict[str, Any]:
        """The arguments; without those that are wrong, which are among the errors then."""
        values: dict[str, Any] = {}
        request, errors = asked.request, asked.errors
        for call in self.calls:
            await call.solve(asked, values)
        for value in self.path:
            value.read(request.path_params, values, errors)
        if self.query:
            found = request.query_params if request.scope["query_string"] else _NOTHING
            for value in self.query:
                value.read(found, values, errors)
        for value in self.header:
            value.read(request.headers, values, errors)
        for value in self.cookie:
            value.read(request.cookies, values, errors)
        for name in self.requests:
            values[name] = request
        if self.response is not None:
            values[self.response] = asked.answering()
        return values


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is between a request that is let in and the response of the endpoint."""

    route: "ApiRoute"
    arguments: _Arguments
    body: ModelField | None

    async def handle(self, request: Request) -> Response:
        """Call the endpoint. Raises RequestValidationError, and what the endpoint and its dependencies raise."""
        asked = _Asked(request, [], {})
        values = await self.arguments.make(asked)
        sent = await self._read_body(asked, values) if self.body is not None else None
        if asked.errors:
            raise RequestValidationError(asked.errors, body=sent)
        result = await self.route.endpoint(**values)
        return result if isinstance(result, Response) else json_response(self.route, request, result, asked.response)

    async def _read_body(self, asked: _Asked, values: dict[str, Any]) -> Any:
        """The body, which was found to be JSON of the right type before."""
        assert self.body is not None
        if await asked.request.body():
            sent = await asked.request.json()
            value, wrong = self.body.validate(sent, values, loc=("body",))
        else:
            sent, required = None, self.body.field_info.is_required()
            value = None if required else deepcopy(self.body.default)
            wrong = [get_missing_field_error(loc=("body",))] if required else []
        asked.errors.extend(wrong)
        values[self.body.name] = value
        return sent


def plan_of(route: "ApiRoute") -> Plan | None:
    """The plan of a route, or None when FastAPI has to solve something in it."""
    plain = isinstance(route.response_class, DefaultPlaceholder) and not route.stream_item_field
    if not plain or not _is_plain(route.endpoint) or not inspect.iscoroutinefunction(route.endpoint):
        return None
    try:
        return Plan(route, _Arguments.of(route.dependant), _body_of(route))
    except _Unplanned:
        return None


def _body_of(route: "ApiRoute") -> ModelField | None:
    if route.body_field is None:
        return None
    fields = route.dependant.body_params
    if len(fields) != 1 or route._embed_body_fields or isinstance(route.body_field.field_info, params.Form):
        raise _Unplanned
    if fields[0].field_info.validate_default:
        raise _Unplanned
    return fields[0]


def _call_of(dependant: Dependant) -> _Call:
    function = dependant.call
    if function is None or not _is_plain(function) or dependant.concurrency or dependant.body_params:
        raise _Unplanned
    arguments = _Arguments.of(dependant)
    return _Call(dependant.name, function, arguments, inspect.iscoroutinefunction(function), dependant.use_cache)


def _is_plain(function: Callable[..., Any]) -> bool:
    """Whether it is a function that is called and done: no object, nothing wrapped, nothing that yields."""
    yields = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    return inspect.isfunction(function) and not yields and not hasattr(function, "__wrapped__")


def _values_of(fields: Sequence[ModelField]) -> tuple[_Value, ...]:
    return tuple(_Value.of(field) for field in fields)
