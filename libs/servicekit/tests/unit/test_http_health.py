import asyncio

import httpx

from kgl_servicekit.errors import Unavailable
from kgl_servicekit.http import OptionalCheck, create_app
from kgl_servicekit.http.testing import FakeDatabase, ServedForTests, client_of


class Store:
    """A dependency whose mood can change."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    async def check(self) -> None:
        if self.error is not None:
            raise self.error


store, extra, database = Store(), Store(), FakeDatabase()
service = ServedForTests(
    routers=[], database=database, checks={"objects": store.check, "mail": OptionalCheck(extra.check)}
)
app = create_app(service)


async def get(path: str) -> httpx.Response:
    async with client_of(app) as client:
        return await client.get(path)


async def test_a_process_that_runs_is_live_whatever_is_down() -> None:
    database.outage = Unavailable(retry_after=1)
    try:
        answered = await get("/health/live")
    finally:
        database.outage = None
    assert (answered.status_code, answered.json()) == (200, {"service": "sample", "status": "live"})


async def test_ready_lists_each_dependency() -> None:
    answered = await get("/health/ready")
    assert answered.status_code == 200
    assert answered.json()["status"] == "ready"
    assert {name: (each["up"], each["required"]) for name, each in answered.json()["dependencies"].items()} == {
        "database": (True, True),
        "objects": (True, True),
        "mail": (True, False),
    }


async def test_a_required_dependency_that_is_down_is_503_and_its_error_is_not_told() -> None:
    for broken in (store, database):
        error = RuntimeError("postgresql://owner:hunter2@db")
        if isinstance(broken, Store):
            broken.error = error
        else:
            broken.outage = error
        answered = await get("/health/ready")
        store.error, database.outage = None, None
        assert answered.status_code == 503
        assert answered.json()["status"] == "unready"
        assert "hunter2" not in answered.text
        assert answered.headers["retry-after"] == "2"
        assert [each["up"] for each in answered.json()["dependencies"].values()].count(False) == 1


async def test_an_optional_dependency_that_is_down_is_shown_and_harms_nothing() -> None:
    extra.error = RuntimeError("no")
    answered = await get("/health/ready")
    extra.error = None
    assert answered.status_code == 200
    assert answered.json()["dependencies"]["mail"]["up"] is False


async def test_a_dependency_that_hangs_is_told_to_be_down_within_two_seconds() -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    hanging = create_app(ServedForTests(routers=[], checks={"a": hang, "b": hang}))
    async with client_of(hanging) as client:
        answered = await asyncio.wait_for(client.get("/health/ready"), 1.9)
    assert answered.status_code == 503
    assert [name for name, each in answered.json()["dependencies"].items() if not each["up"]] == ["a", "b"]


async def test_metrics_are_in_the_text_format() -> None:
    await get("/health/live")
    answered = await get("/metrics")
    assert answered.headers["content-type"].startswith("text/plain")
    assert 'kgl_http_requests_total{method="GET",route="/health/live",service="sample",status="200"}' in answered.text


async def test_health_is_for_reading_alone() -> None:
    async with client_of(app) as client:
        refused = await client.post("/health/ready")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
        assert (await client.head("/health/live")).status_code == 200
