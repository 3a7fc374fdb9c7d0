"""Asking auth: what it says is kept for a moment, and whatever is no answer is an outage."""

import asyncio
from collections.abc import Callable
from uuid import UUID

import httpx
import pytest

from kgl_servicekit.errors import Problem
from kgl_servicekit.identity.auth_client import AuthClient
from kgl_servicekit.identity.checked import CheckAnswer, Checked
from kgl_servicekit.identity.problems import (
    IdentityUnavailable,
    KeyInvalid,
    SessionEnded,
    TokenInvalid,
    WorkspaceDenied,
    WorkspaceMismatch,
)

USER = UUID("0198f3a0-0000-7000-8000-000000000011")
ADMITTED = Checked(principal=f"user:{USER}", user_id=USER, permissions=frozenset({"graph:read", "live:read"}))


class Auth:
    """auth as its clients see it, with a clock."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []
        self.respond: Callable[[], httpx.Response] = self.admits
        self.now = 1000.0
        client = httpx.AsyncClient(transport=httpx.MockTransport(self.answer))
        self.client = AuthClient(client, "http://auth/auth/v1/check", lambda: self.now)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return self.respond()

    def admits(self) -> httpx.Response:
        return httpx.Response(200, content=CheckAnswer.of(ADMITTED).model_dump_json())


@pytest.fixture
def auth() -> Auth:
    return Auth()


async def test_the_question_is_the_callers_own_credential_and_workspace(auth: Auth) -> None:
    assert await auth.client.check("Bearer a.b.c", "lab") == ADMITTED
    await auth.client.check("Bearer a.b.c", None)
    first, second = auth.asked
    assert (first.headers["authorization"], first.headers["kgl-workspace"]) == ("Bearer a.b.c", "lab")
    assert "kgl-workspace" not in second.headers


async def test_an_answer_is_kept_for_a_moment_and_asked_for_once_by_many(auth: Auth) -> None:
    await asyncio.gather(*(auth.client.check("Bearer a.b.c", None) for _ in range(20)))
    assert len(auth.asked) == 1
    auth.now += 1.4
    await auth.client.check("Bearer a.b.c", None)
    assert len(auth.asked) == 1
    auth.now += 0.2
    await auth.client.check("Bearer a.b.c", None)
    assert len(auth.asked) == 2


@pytest.mark.parametrize(
    ("status", "code", "problem"),
    [
        (401, "token_invalid", TokenInvalid),
        (401, "key_invalid", KeyInvalid),
        (401, "something_new", TokenInvalid),
        (403, "workspace_mismatch", WorkspaceMismatch),
        (403, "?", WorkspaceDenied),
    ],
)
async def test_a_refusal_is_passed_on_and_kept_for_a_moment(
    auth: Auth, status: int, code: str, problem: type[Problem]
) -> None:
    auth.respond = lambda: httpx.Response(status, json={"code": code})
    for _ in range(2):
        with pytest.raises(problem):
            await auth.client.check("Bearer a.b.c", None)
    assert len(auth.asked) == 1
    auth.now += 1.6
    auth.respond = auth.admits
    assert await auth.client.check("Bearer a.b.c", None) == ADMITTED


async def test_a_session_that_auth_calls_ended_is_ended(auth: Auth) -> None:
    ended = CheckAnswer.of(ADMITTED).model_copy(update={"session_active": False})
    auth.respond = lambda: httpx.Response(200, content=ended.model_dump_json())
    with pytest.raises(SessionEnded):
        await auth.client.check("Bearer a.b.c", None)


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(500),
        httpx.Response(404, json={}),
        httpx.Response(302, headers={"Location": "http://127.0.0.1:1/"}),
        httpx.Response(429),
        httpx.Response(200, content=b"<html>"),
        httpx.Response(200, json={"user_id": "?"}),
        httpx.Response(401, content=b"<html>a proxy says no</html>"),
    ],
)
async def test_whatever_is_no_answer_is_an_outage_and_tried_once_a_moment(auth: Auth, response: httpx.Response) -> None:
    auth.respond = lambda: response
    for workspace in (None, "lab"):
        with pytest.raises(IdentityUnavailable):
            await auth.client.check("Bearer a.b.c", workspace)
    assert len(auth.asked) == 1
    auth.now += 1.6
    auth.respond = auth.admits
    assert await auth.client.check("Bearer a.b.c", "lab") == ADMITTED
