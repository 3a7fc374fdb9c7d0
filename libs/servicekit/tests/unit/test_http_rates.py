from uuid import uuid4

import pytest

from kgl_servicekit.http import PUBLIC, ApiRouter, create_app
from kgl_servicekit.http.rates import RateLimiter
from kgl_servicekit.http.testing import ServedForTests, client_of, settings_for_tests


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_holds_a_minutes_tokens_and_fills_up_evenly() -> None:
    clock = Clock()
    limiter = RateLimiter(60, clock)
    spent = [limiter.spend("a") for _ in range(60)]
    assert all(each.wait == 0 for each in spent)
    assert [each.remaining for each in spent[-2:]] == [1, 0]
    assert limiter.spend("a").wait == pytest.approx(1.0)
    assert limiter.spend("b").wait == 0
    clock.now += 0.5
    assert limiter.spend("a").wait == pytest.approx(0.5)
    clock.now += 0.6
    assert limiter.spend("a").wait == 0
    clock.now += 3600
    assert limiter.spend("a").remaining == 59


def test_what_costs_more_takes_more_and_a_refusal_takes_nothing() -> None:
    clock = Clock()
    limiter = RateLimiter(10, clock)
    assert limiter.spend("a", 8).remaining == 2
    refused = limiter.spend("a", 5)
    assert refused.remaining == 2
    assert refused.wait == pytest.approx(18.0)
    assert limiter.spend("a", 2).wait == 0


def test_over_an_hour_nobody_gets_more_than_the_limit_and_one_bucket() -> None:
    clock = Clock()
    limiter = RateLimiter(60, clock)
    allowed = 0
    for _ in range(36_000):
        clock.now += 0.1
        allowed += limiter.spend("a").wait == 0
    assert allowed == pytest.approx(3660, rel=0.01)


router = ApiRouter()


@router.get("/cheap", permission=None)
async def cheap() -> dict[str, str]:
    return {}


@router.get("/dear", permission=None, cost=3)
async def dear() -> dict[str, str]:
    return {}


@router.get("/open", permission=PUBLIC)
async def public() -> dict[str, str]:
    return {}


async def test_callers_are_told_their_limit_and_when_to_come_again() -> None:
    service = ServedForTests(routers=[("/s/v1", router)], settings=settings_for_tests(rate_limit_per_minute=5))
    app = create_app(service)
    async with client_of(app, headers=service.authority.user(uuid4())) as client:
        first = await client.get("/s/v1/cheap")
        assert (first.headers["ratelimit-limit"], first.headers["ratelimit-remaining"]) == ("5", "4")
        assert (await client.get("/s/v1/dear")).headers["ratelimit-remaining"] == "1"
        refused = await client.get("/s/v1/dear")
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
        assert 20 <= int(refused.headers["retry-after"]) <= 24
        assert refused.headers["ratelimit-remaining"] == "1"
        assert 45 <= int(refused.headers["ratelimit-reset"]) <= 48
        assert "ratelimit-limit" not in (await client.get("/s/v1/open")).headers
    async with client_of(app, headers=service.authority.user(uuid4())) as client:
        assert (await client.get("/s/v1/dear")).status_code == 200
