"""The HTTP kit: what every API of the system promises, done once."""

from kgl_servicekit.http.app import create_app
from kgl_servicekit.http.conditional import (
    Condition,
    IfMatch,
    RequiredIfMatch,
    conditional,
    etag_of,
    require_match,
)
from kgl_servicekit.http.exchange import Caller, Reply, RequestCaller
from kgl_servicekit.http.health import OptionalCheck
from kgl_servicekit.http.pages import Page, PageParams, Window, page
from kgl_servicekit.http.routing import ApiRouter
from kgl_servicekit.http.rules import PUBLIC, SESSION, Deprecation
from kgl_servicekit.http.run import Run, Runner
from kgl_servicekit.http.strict_query import only_known_parameters

__all__ = [
    "PUBLIC",
    "SESSION",
    "ApiRouter",
    "Caller",
    "Condition",
    "Deprecation",
    "IfMatch",
    "OptionalCheck",
    "Page",
    "PageParams",
    "Reply",
    "RequestCaller",
    "RequiredIfMatch",
    "Run",
    "Runner",
    "Window",
    "conditional",
    "create_app",
    "etag_of",
    "only_known_parameters",
    "page",
    "require_match",
]
