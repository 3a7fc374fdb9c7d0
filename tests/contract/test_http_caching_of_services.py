"""What all five services say of caching: on purpose, never more than their callers may see."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from inspect import iscoroutinefunction as is_coroutine
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

import kgl_auth.bootstrap
import kgl_content.bootstrap
import kgl_graph.bootstrap
import kgl_ingest.bootstrap
import kgl_publish.bootstrap
from kgl_auth.settings import AuthSettings
from kgl_content.settings import ContentSettings
from kgl_graph.settings import GraphSettings
from kgl_ingest.settings import IngestSettings
from kgl_publish.settings import PublishSettings
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.http import create_app
from kgl_servicekit.http.routing import ApiRoute
from kgl_servicekit.http.rules import PUBLIC
from kgl_servicekit.http.testing import FakeDatabase, client_of
from kgl_servicekit.identity.checked import Checked
from kgl_servicekit.identity.testing import FakeAuthority

BUILDERS: list[tuple[Callable[..., Any], type[Any]]] = [
    (kgl_auth.bootstrap.build, AuthSettings),
    (kgl_ingest.bootstrap.build, IngestSettings),
    (kgl_graph.bootstrap.build, GraphSettings),
    (kgl_content.bootstrap.build, ContentSettings),
    (kgl_publish.bootstrap.build, PublishSettings),
]

# every read that is not `private, no-cache`: nothing may be kept, or seconds for what is the same for everybody
DECLARED: dict[str, str | int] = {
    "/auth/v1/login": "no-store",
    "/auth/v1/callback": "no-store",
    "/auth/v1/check": "no-store",
    "/auth/v1/audit:verify": "no-store",
    "/auth/v1/instance/audit:verify": "no-store",
    "/auth/v1/oidc/authorize": "no-store",
    "/auth/v1/oidc/login": "no-store",
    "/auth/v1/oidc/register": "no-store",
    "/auth/v1/oidc/userinfo": "no-store",
    "/auth/v1/oidc/logout": "no-store",
    "/auth/v1/oidc/.well-known/openid-configuration": 300,
    "/auth/v1/oidc/jwks": 300,
    "/auth/v1/roles": 300,
    "/ingest/v1/limits": 300,
    "/ingest/v1/documents/{document_id}/file/link": "no-store",
}
PARAMETERS = {
    "document_id": str(uuid4()),
    "key_id": "0" * 16,
    "name": "reader",
    "version": "1",
}


def apps(folder: Path, authority: FakeAuthority) -> list[FastAPI]:
    """The five applications as they are built, with callers whom the test knows; nothing is connected."""
    nowhere = "postgresql://nowhere"
    services = [
        build(settings(env="test", database_url=nowhere, bus_url=nowhere, object_dir=folder), MemoryBus())
        for build, settings in BUILDERS
    ]
    return [create_app(replace(service, authority=authority, database=FakeDatabase())) for service in services]


def reads(app: FastAPI) -> Iterator[ApiRoute]:
    for route in app.router.routes:
        if isinstance(route, ApiRoute) and "GET" in (route.methods or ()):
            yield route


def address(route: ApiRoute) -> str:
    """The route's path with something that fits in each place."""
    return route.path.format_map({name: PARAMETERS.get(name, str(uuid4())) for name in route.param_convertors})


@pytest.fixture(scope="module")
def authority() -> FakeAuthority:
    return FakeAuthority()


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory, authority: FakeAuthority) -> list[FastAPI]:
    return apps(tmp_path_factory.mktemp("objects"), authority)


def test_every_read_is_private_and_revalidated_or_declared_otherwise_on_purpose(services: list[FastAPI]) -> None:
    routes = [route for app in services for route in reads(app)]
    assert len(routes) > 40
    declared = {route.path: route.rules.cache for route in routes if route.rules.cache is not None}
    assert declared == DECLARED


def test_what_is_kept_without_asking_is_no_ones_own(services: list[FastAPI]) -> None:
    for app in services:
        for route in reads(app):
            if isinstance(route.rules.cache, int):
                assert not isinstance(route.rules.permission, str), f"{route.path} shows what a workspace has"
                assert route.rules.cache <= 300


async def answers(services: list[FastAPI], **headers: str) -> list[tuple[ApiRoute, httpx.Response]]:
    """What each guarded read answers to a client that says it has whatever there is."""
    found: list[tuple[ApiRoute, httpx.Response]] = []
    for app in services:
        async with client_of(app, headers={"If-None-Match": "*", **headers}) as client:
            guarded = [route for route in reads(app) if route.rules.permission is not PUBLIC]
            found += [(route, await client.get(address(route))) for route in guarded]
    assert len(found) > 35
    return found


async def test_no_read_tells_a_stranger_by_304_that_something_is_there(services: list[FastAPI]) -> None:
    for route, answer in await answers(services):
        assert answer.status_code == 401, route.path
        assert answer.headers["cache-control"] == "no-store", route.path


async def test_no_read_tells_one_without_the_permission_by_304_that_something_is_there(
    services: list[FastAPI], authority: FakeAuthority
) -> None:
    workspace = uuid4()
    nobody = authority.admit(
        Checked(principal="user:x", user_id=uuid4(), workspace_id=workspace, permissions=frozenset())
    )
    for route, answer in await answers(services, Authorization=nobody, **{"Kgl-Workspace": str(workspace)}):
        if isinstance(route.rules.permission, str):
            assert answer.status_code == 403, f"{route.path}: {answer.text}"


def calls(dependant: Any) -> Iterator[Callable[..., Any]]:
    """The functions that are called before a route, and those that they ask for."""
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from calls(dependency)


def test_nothing_that_a_route_depends_on_goes_through_a_thread(services: list[FastAPI]) -> None:
    routes = [route for app in services for route in app.router.routes if isinstance(route, ApiRoute)]
    threaded = {call.__qualname__ for route in routes for call in calls(route.dependant) if not is_coroutine(call)}
    assert threaded == set()
