"""How a service decides: from its replica, by asking auth, or not at all."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from kgl_servicekit.errors import Problem, Unavailable
from kgl_servicekit.identity.auth_client import AuthClient
from kgl_servicekit.identity.checked import CheckAnswer, Checked
from kgl_servicekit.identity.credential import ApiKey
from kgl_servicekit.identity.permissions import INSTANCE_WORKSPACE
from kgl_servicekit.identity.problems import (
    IdentityUnavailable,
    KeyInvalid,
    SessionEnded,
    TokenInvalid,
    WorkspaceDenied,
    WorkspaceMismatch,
)
from kgl_servicekit.identity.replica import UNREADABLE, Snapshot
from kgl_servicekit.identity.replicated import ReplicatedAuthority
from kgl_servicekit.identity.short_cache import ShortCache
from kgl_servicekit.identity.testing import FakeReplica, TokenSigner
from kgl_servicekit.identity.tokens import TokenVerifier

SIGNER = TokenSigner()
WORKSPACE = UUID("0198f3a0-0000-7000-8000-000000000010")
USER = UUID("0198f3a0-0000-7000-8000-000000000011")

FROM_AUTH = Checked(
    principal=f"user:{USER}", user_id=USER, workspace_id=WORKSPACE, permissions=frozenset({"graph:read"})
)


class Auth:
    """auth as its clients see it: answers, refuses, or is out."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []
        self.respond: Callable[[], httpx.Response] = self.admits
        self.now = time.monotonic()
        client = httpx.AsyncClient(transport=httpx.MockTransport(self.answer))
        self.client = AuthClient(client, "http://auth/auth/v1/check", lambda: self.now)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return self.respond()

    def admits(self) -> httpx.Response:
        return httpx.Response(200, content=CheckAnswer.of(FROM_AUTH).model_dump_json())

    def is_out(self) -> httpx.Response:
        raise httpx.ConnectError("down")


class Scene:
    """A service with a replica that knows one workspace, one member and one key."""

    def __init__(self) -> None:
        self.replica = FakeReplica()
        self.auth = Auth()
        self.key = ApiKey.generate()
        self.changed = asyncio.Event()
        self.believe(self.replica)
        rows = self.replica.rows
        rows[f"workspace:{WORKSPACE}"] = {
            "workspace_id": str(WORKSPACE),
            "slug": "lab",
            "name": "Lab",
            "deleted": False,
        }
        rows["slug:lab"] = {"workspace_id": str(WORKSPACE)}
        rows[f"membership:{WORKSPACE}:{USER}"] = {"permissions": ["documents:read"], "deleted": False}
        rows[f"key:{self.key.id}"] = {
            "workspace_id": str(WORKSPACE),
            "secret_sha256": self.key.secret_sha256,
            "permissions": ["documents:write"],
            "module": "tagger",
            "expires_at": None,
            "revoked": False,
        }

    def believe(self, replica: FakeReplica) -> None:
        """An authority of its own, over another replica."""
        tokens = TokenVerifier(SIGNER, SIGNER.issuer)
        self.authority = ReplicatedAuthority(replica, tokens, self.auth.client, self.changed)

    def change(self, key: str, **state: Any) -> None:
        self.replica.rows[key] = {**self.replica.rows[key], **state}

    async def user(self, hint: str | None = str(WORKSPACE), *, reading: bool = False, **claims: Any) -> Checked:
        return await self.authority.check(f"Bearer {SIGNER.token(USER, **claims)}", hint, reading=reading)

    async def by_key(self, hint: str | None = None, *, reading: bool = False, text: str | None = None) -> Checked:
        return await self.authority.check(f"Bearer {text or self.key.text}", hint, reading=reading)

    async def refuses_user(self, problem: type[Problem], hint: str | None = str(WORKSPACE), **options: Any) -> None:
        with pytest.raises(problem):
            await self.user(hint, **options)

    async def refuses_key(self, problem: type[Problem], hint: str | None = None, **options: Any) -> None:
        with pytest.raises(problem):
            await self.by_key(hint, **options)


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize("hint", [str(WORKSPACE), "lab"])
async def test_while_fresh_a_member_is_known_here_by_id_or_slug(scene: Scene, hint: str) -> None:
    checked = await scene.user(hint)
    assert checked.principal == f"user:{USER}"
    assert (checked.user_id, checked.workspace_id) == (USER, WORKSPACE)
    assert checked.permissions == {"documents:read"}
    assert checked.expires_at is not None
    assert checked.module is None
    assert scene.auth.asked == []


async def test_without_a_workspace_a_user_has_the_rights_of_the_instance_alone(scene: Scene) -> None:
    checked = await scene.user(None)
    assert (checked.workspace_id, checked.permissions) == (None, frozenset())
    scene = Scene()
    scene.replica.rows[f"membership:{INSTANCE_WORKSPACE}:{USER}"] = {"permissions": ["instance:*"], "deleted": False}
    assert (await scene.user(None)).permissions == {"instance:*"}
    assert (await scene.user()).permissions == {"instance:*", "documents:read"}
    assert scene.auth.asked == []


async def test_an_api_key_brings_its_workspace_rights_and_module(scene: Scene) -> None:
    for hint in (None, str(WORKSPACE), "lab"):
        checked = await scene.by_key(hint)
        assert checked.principal == f"key:{scene.key.id}"
        assert (checked.user_id, checked.workspace_id, checked.module) == (None, WORKSPACE, "tagger")
        assert checked.permissions == {"documents:write"}
    assert scene.auth.asked == []


async def test_an_api_key_for_another_workspace_is_refused(scene: Scene) -> None:
    await scene.refuses_key(WorkspaceMismatch, str(uuid4()))
    scene.replica.rows["slug:other"] = {"workspace_id": str(uuid4())}
    await scene.refuses_key(WorkspaceMismatch, "other")


async def test_the_key_of_an_installations_module_works_in_each_workspace_that_it_names(scene: Scene) -> None:
    scene.change(f"key:{scene.key.id}", workspace_id=str(INSTANCE_WORKSPACE))
    assert (await scene.by_key()).workspace_id == INSTANCE_WORKSPACE
    for hint in (str(WORKSPACE), "lab"):
        checked = await scene.by_key(hint)
        assert checked.workspace_id == WORKSPACE
        assert checked.permissions == {"documents:write"}
    assert scene.auth.asked == []
    assert await scene.by_key("unknown") == FROM_AUTH
    scene.change(f"workspace:{WORKSPACE}", deleted=True)
    await scene.refuses_key(KeyInvalid, "lab", reading=True)


@pytest.mark.parametrize("age", [0.0, 100.0, float("inf")])
async def test_a_wrong_secret_or_a_dead_key_is_refused_at_once_however_old_the_replica(
    age: float,
) -> None:
    for change in (
        {"revoked": True},
        {"secret_sha256": "0" * 64},
        {"expires_at": (datetime.now(UTC) - timedelta(seconds=1)).isoformat()},
    ):
        scene = Scene()
        scene.replica.age = age
        scene.change(f"key:{scene.key.id}", **change)
        await scene.refuses_key(KeyInvalid)
        assert scene.auth.asked == []


async def test_a_key_with_a_later_end_is_good_and_says_when_it_ends(scene: Scene) -> None:
    end = datetime.now(UTC) + timedelta(hours=1)
    scene.change(f"key:{scene.key.id}", expires_at=end.isoformat())
    assert (await scene.by_key()).expires_at == end


async def test_the_key_of_a_deleted_workspace_is_refused(scene: Scene) -> None:
    scene.change(f"workspace:{WORKSPACE}", deleted=True)
    await scene.refuses_key(KeyInvalid)


async def test_a_revoked_session_is_refused_at_once_however_old_the_replica(scene: Scene) -> None:
    scene.replica.rows["session:session-1"] = {"session_id": "session-1"}
    for age in (0.0, float("inf")):
        scene.replica.age = age
        await scene.refuses_user(SessionEnded)
    assert scene.auth.asked == []


async def test_tokens_from_before_their_user_was_put_out_are_refused_in_whatever_session(scene: Scene) -> None:
    def put_out(seconds: float) -> None:
        before = datetime.now(UTC) + timedelta(seconds=seconds)
        scene.replica.rows[f"user:{USER}"] = {"user_id": str(USER), "before": before.isoformat()}
        scene.changed.set()

    put_out(-60)
    await scene.user()
    put_out(60)
    for age in (0.0, float("inf")):
        scene.replica.age = age
        await scene.refuses_user(SessionEnded)
    scene.replica.rows[f"user:{USER}"] = UNREADABLE
    await scene.refuses_user(SessionEnded)
    assert scene.auth.asked == []


async def test_who_is_no_member_any_more_is_refused(scene: Scene) -> None:
    scene.change(f"membership:{WORKSPACE}:{USER}", deleted=True)
    await scene.refuses_user(WorkspaceDenied)
    assert scene.auth.asked == []


async def test_a_deleted_workspace_is_closed_to_its_members(scene: Scene) -> None:
    scene.change(f"workspace:{WORKSPACE}", deleted=True)
    await scene.refuses_user(WorkspaceDenied)


async def test_an_event_that_could_not_be_read_denies_its_key(scene: Scene) -> None:
    scene.replica.rows[f"membership:{WORKSPACE}:{USER}"] = UNREADABLE
    await scene.refuses_user(WorkspaceDenied)
    scene.replica.rows[f"key:{scene.key.id}"] = UNREADABLE
    await scene.refuses_key(KeyInvalid)


async def test_what_the_replica_does_not_know_is_asked_at_auth(scene: Scene) -> None:
    for hint in (str(uuid4()), "unknown"):
        assert await scene.user(hint) == FROM_AUTH
    del scene.replica.rows[f"key:{scene.key.id}"]
    assert await scene.by_key() == FROM_AUTH
    assert len(scene.auth.asked) == 3
    request = scene.auth.asked[1]
    assert request.headers["kgl-workspace"] == "unknown"
    assert request.headers["authorization"].startswith("Bearer ey")


async def test_a_stale_replica_is_not_believed_while_auth_answers(scene: Scene) -> None:
    scene.replica.age = 5.1
    assert await scene.user() == FROM_AUTH
    scene.change(f"membership:{WORKSPACE}:{USER}", deleted=True)
    assert await scene.user("lab") == FROM_AUTH


async def test_while_auth_is_out_reads_go_on_for_five_minutes_and_writes_wait(scene: Scene) -> None:
    scene.auth.respond = scene.auth.is_out
    scene.replica.age = 299.0
    assert (await scene.user(reading=True)).permissions == {"documents:read"}
    assert (await scene.by_key(reading=True)).permissions == {"documents:write"}
    await scene.refuses_user(IdentityUnavailable)
    await scene.refuses_key(IdentityUnavailable)
    scene = Scene()
    scene.auth.respond = scene.auth.is_out
    scene.replica.age = 301.0
    await scene.refuses_user(IdentityUnavailable, reading=True)


async def test_while_auth_is_out_a_stranger_is_not_called_a_stranger(scene: Scene) -> None:
    scene.auth.respond = scene.auth.is_out
    await scene.refuses_user(IdentityUnavailable, str(uuid4()), reading=True)
    await scene.refuses_key(IdentityUnavailable, text=ApiKey.generate().text)


async def test_while_auth_is_out_a_former_member_reads_nothing(scene: Scene) -> None:
    scene.auth.respond = scene.auth.is_out
    scene.replica.age = 100.0
    scene.change(f"membership:{WORKSPACE}:{USER}", deleted=True)
    await scene.refuses_user(WorkspaceDenied, reading=True)


async def test_a_bad_token_is_refused_here_and_never_sent_on(scene: Scene) -> None:
    scene.replica.age = float("inf")
    await scene.refuses_user(TokenInvalid, iss="http://evil")
    assert scene.auth.asked == []


async def test_an_outage_of_the_own_database_is_an_outage(scene: Scene) -> None:
    scene.replica.outage = Unavailable(retry_after=1)
    await scene.refuses_user(Unavailable, reading=True)


async def test_fifty_at_once_read_the_replica_once_and_ask_auth_once(scene: Scene) -> None:
    scene.replica.age = 10.0
    authorization = f"Bearer {SIGNER.token(USER)}"
    found = await asyncio.gather(
        *(scene.authority.check(authorization, str(WORKSPACE), reading=True) for _ in range(50))
    )
    assert set(found) == {FROM_AUTH}
    assert (scene.replica.reads, len(scene.auth.asked)) == (1, 1)


async def test_an_answer_is_kept_for_its_workspace_and_kind_of_access_alone(scene: Scene) -> None:
    authorization = f"Bearer {SIGNER.token(USER)}"
    for hint, reading in ((str(WORKSPACE), True), (str(WORKSPACE), False), (None, True)):
        await scene.authority.check(authorization, hint, reading=reading)
    reads = scene.replica.reads
    assert reads == 3
    await scene.authority.check(authorization, str(WORKSPACE), reading=True)
    assert scene.replica.reads == reads


async def test_a_key_that_is_revoked_is_refused_as_soon_as_the_service_knows(scene: Scene) -> None:
    await scene.by_key()
    scene.change(f"key:{scene.key.id}", revoked=True)
    assert (await scene.by_key()).module == "tagger"  # kept: the event has not been told of yet
    scene.changed.set()
    await scene.refuses_key(KeyInvalid)
    assert not scene.changed.is_set()


async def test_what_auth_said_is_asked_anew_as_soon_as_the_service_knows_of_a_change(scene: Scene) -> None:
    del scene.replica.rows[f"key:{scene.key.id}"]
    assert await scene.by_key() == FROM_AUTH
    scene.auth.respond = lambda: httpx.Response(401, json={"code": "key_invalid"})
    scene.changed.set()
    await scene.refuses_key(KeyInvalid)
    assert len(scene.auth.asked) == 2


class SlowReplica(FakeReplica):
    """Its answers are those of when it was asked, and come when they may."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.asked = asyncio.Event()

    async def read(self, keys: Sequence[str]) -> Snapshot:
        snapshot = await super().read(keys)
        self.asked.set()
        await self.go.wait()
        return snapshot


@pytest.mark.parametrize("somebody_asks_meanwhile", [True, False])
async def test_an_answer_that_is_on_its_way_while_its_key_is_revoked_is_not_for_those_who_ask_later(
    scene: Scene, somebody_asks_meanwhile: bool
) -> None:
    slow = SlowReplica()
    slow.rows = scene.replica.rows
    scene.believe(slow)
    early = asyncio.ensure_future(scene.by_key())
    await slow.asked.wait()
    scene.change(f"key:{scene.key.id}", revoked=True)
    scene.changed.set()
    if somebody_asks_meanwhile:
        late = asyncio.ensure_future(scene.by_key())
        await asyncio.sleep(0)
        slow.go.set()
        with pytest.raises(KeyInvalid):
            await late
    slow.go.set()
    assert (await early).module == "tagger"
    await scene.refuses_key(KeyInvalid)


@pytest.mark.parametrize(("age", "kept_seconds"), [(0.0, 5.0), (4.0, 1.0), (5.0, 0.0)])
async def test_without_any_signal_an_answer_is_kept_until_its_replica_would_be_5_seconds_old(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, age: float, kept_seconds: float
) -> None:
    now = 100.0
    monkeypatch.setattr(scene.authority, "_kept", ShortCache("access", 10, lambda: now))
    scene.replica.age = age
    await scene.by_key()
    scene.change(f"key:{scene.key.id}", revoked=True)
    if kept_seconds:
        now = 99.99 + kept_seconds
        await scene.by_key()
    now = 100.0 + kept_seconds
    await scene.refuses_key(KeyInvalid)


async def test_the_choices_of_a_user_come_from_the_replica(scene: Scene) -> None:
    assert [choice.slug for choice in await scene.authority.workspaces(USER)] == ["lab"]
    assert scene.authority.session_cookie is None
    await scene.authority.close()
