from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import APIRouter, WebSocket
from pydantic import BaseModel

from kgl_servicekit.errors import Conflict
from kgl_servicekit.http import PUBLIC, SESSION, ApiRouter, Caller, Deprecation, Run, create_app
from kgl_servicekit.http.testing import ServedForTests, client_of, settings_for_tests

WORKSPACE = uuid4()


class Thing(BaseModel):
    id: UUID
    title: str


class ThingTaken(Conflict, code="thing_taken"):
    """Another thing has this title; take another title."""

    existing: UUID


things = ApiRouter(prefix="/things", tags=["things"])


@things.post("", status_code=201, permission="documents:write", problems=[ThingTaken])
async def create_thing(body: Thing, run: Run) -> Thing:
    """Make a thing."""

    async def make(tx: Any, thing: Thing) -> Thing:
        if thing.title == "taken":
            raise ThingTaken(existing=thing.id)
        return thing

    return await run(make, body)


@things.get("/{thing_id}", permission="documents:read", cache=60)
async def read_thing(thing_id: UUID, caller: Caller) -> Thing:
    return Thing(id=thing_id, title=caller.principal)


@things.delete("/{thing_id}", permission="documents:delete", status_code=204)
async def delete_thing(thing_id: UUID) -> None: ...


@things.put("/{thing_id}", permission=None)
async def replace_thing(thing_id: UUID) -> None: ...


@things.patch(
    "/{thing_id}",
    permission=SESSION,
    deprecation=Deprecation(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
)
async def change_thing(thing_id: UUID) -> None: ...


lists = ApiRouter()


@lists.get("/health-of-things", permission=PUBLIC, cache="no-store")
async def health_of_things() -> dict[str, str]:
    return {"things": "well"}


@lists.websocket("/stream")
async def stream(socket: WebSocket) -> None:
    await socket.accept()
    await socket.close()


service = ServedForTests(
    routers=[("/sample/v1", things), ("/lists/v1", lists)], outside="stores", settings=settings_for_tests()
)
app = create_app(service)


def test_a_route_without_a_permission_is_an_error_at_once() -> None:
    router = ApiRouter(prefix="/x")
    for declare in (router.get, router.post, router.put, router.patch, router.delete):
        with pytest.raises(TypeError, match="/x/y does not say who may use it"):
            declare("/y")(read_thing)
    with pytest.raises(TypeError, match="does not say"):
        router.head("/y")(read_thing)
    with pytest.raises(TypeError, match="does not say"):
        router.add_api_route("/y", read_thing)
    assert router.routes == []


def test_a_permission_that_nobody_can_have_is_an_error_at_once() -> None:
    with pytest.raises(TypeError, match="no permission"):
        ApiRouter().get("/y", permission="documents:reed")(read_thing)
    ApiRouter().get("/y", permission="instance:backup")(read_thing)


def test_only_routes_with_rules_are_served() -> None:
    plain = APIRouter()
    plain.add_api_route("/plain", read_thing)
    with pytest.raises(TypeError, match="no route of an ApiRouter"):
        create_app(ServedForTests(routers=[("/sample/v1", plain)]))


async def test_each_router_answers_below_its_prefix_and_stores_are_at_hand() -> None:
    async with client_of(app, headers=service.authority.user(WORKSPACE)) as client:
        thing = {"id": str(uuid4()), "title": "a"}
        made = await client.post("/sample/v1/things", json=thing)
        assert (made.status_code, made.json()) == (201, thing)
        assert (await client.get(f"/sample/v1/things/{thing['id']}")).status_code == 200
        assert (await client.delete(f"/sample/v1/things/{thing['id']}")).status_code == 204
        assert (await client.get("/lists/v1/health-of-things")).json() == {"things": "well"}
        assert (await client.get("/lists/v1/things/x")).status_code == 404
    assert app.state.outside == "stores"


async def test_caching_is_as_the_route_says() -> None:
    async with client_of(app, headers=service.authority.user(WORKSPACE)) as client:
        read = await client.get(f"/sample/v1/things/{uuid4()}")
        assert read.headers["cache-control"] == "private, max-age=60"
        assert read.headers["vary"] == "Kgl-Workspace, Authorization"
        assert (await client.get("/lists/v1/health-of-things")).headers["cache-control"] == "no-store"
        assert (await client.put(f"/sample/v1/things/{uuid4()}")).headers["cache-control"] == "no-store"
        assert (await client.get("/sample/v1/things/x")).headers["cache-control"] == "no-store"


async def test_a_route_on_its_way_out_says_so() -> None:
    async with client_of(app, headers=service.authority.user(WORKSPACE)) as client:
        changed = await client.patch(f"/sample/v1/things/{uuid4()}")
        assert changed.headers["deprecation"] == "@1767225600"
        assert changed.headers["sunset"] == "Fri, 01 Jan 2027 00:00:00 GMT"


async def test_the_description_tells_permissions_problems_and_headers() -> None:
    async with client_of(app) as client:
        described = (await client.get("/sample/v1/openapi.json")).json()
    assert described["openapi"].startswith("3.1")
    made = described["paths"]["/sample/v1/things"]["post"]
    assert made["operationId"] == "sample_create_thing"
    assert made["x-kgl-permission"] == "documents:write"
    assert made["security"] == [{"accessToken": []}, {"apiKey": []}]
    assert {"Kgl-Workspace", "Idempotency-Key"} == {each["name"] for each in made["parameters"]}
    conflict = made["responses"]["409"]
    assert "`thing_taken`: Another thing has this title" in conflict["description"]
    assert "`request_in_flight`" in conflict["description"]
    assert conflict["content"]["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert described["components"]["schemas"]["Problem"]["properties"]["code"]
    assert "HTTPValidationError" not in described["components"]["schemas"]
    assert described["paths"]["/sample/v1/things/{thing_id}"]["patch"]["deprecated"] is True
    read = described["paths"]["/sample/v1/things/{thing_id}"]["get"]
    assert {"200", "304", "400", "401", "403", "404", "422", "429", "503"} <= set(read["responses"])
    assert {"413", "415"} <= set(made["responses"])
    public = described["paths"]["/lists/v1/health-of-things"]["get"]
    assert public["security"] == []
    assert "401" not in public["responses"]
    assert set(described["paths"]) == {
        "/sample/v1/things",
        "/sample/v1/things/{thing_id}",
        "/lists/v1/health-of-things",
    }


async def test_a_declared_problem_is_answered_with_its_members() -> None:
    async with client_of(app, headers=service.authority.user(WORKSPACE)) as client:
        thing = {"id": str(uuid4()), "title": "taken"}
        refused = await client.post("/sample/v1/things", json=thing)
    assert refused.status_code == 409
    assert refused.json()["existing"] == thing["id"]
    assert refused.json()["code"] == "thing_taken"


async def test_the_application_opens_its_service_for_as_long_as_it_lives() -> None:
    async with app.router.lifespan_context(app):
        pass


def test_two_sockets_and_all_routes_are_mounted() -> None:
    paths = [getattr(route, "path", None) for route in app.router.routes]
    assert "/lists/v1/stream" in paths
    assert not {"/docs", "/redoc", "/openapi.json"} & set(paths)
