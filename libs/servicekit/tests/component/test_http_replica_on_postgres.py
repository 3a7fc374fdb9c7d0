"""The identity replica on a real database, from the events to the answer at the door."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from fastapi import APIRouter

from kgl_contracts.envelope import Envelope
from kgl_contracts.event import EventData
from kgl_contracts.identity import (
    KeyChanged,
    MembershipChanged,
    ModuleChanged,
    SessionRevoked,
    Ticked,
    WorkspaceChanged,
)
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.signals import IDENTITY_CHANGED
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import DONE, Event
from kgl_servicekit.http import ApiRouter, Caller, create_app
from kgl_servicekit.http.health import Check
from kgl_servicekit.http.testing import client_of, settings_for_tests
from kgl_servicekit.identity import Module, access, apply_identity, identity_subscription
from kgl_servicekit.identity.auth_client import AuthClient
from kgl_servicekit.identity.credential import ApiKey
from kgl_servicekit.identity.problems import KeyInvalid, SessionEnded, WorkspaceDenied
from kgl_servicekit.identity.replica import UNREADABLE, DatabaseReplica
from kgl_servicekit.identity.replicated import ReplicatedAuthority
from kgl_servicekit.identity.testing import TokenSigner
from kgl_servicekit.identity.tokens import TokenVerifier
from kgl_servicekit.ids import uuid7
from kgl_servicekit.settings import ServiceSettings
from kgl_servicekit.testing.counter import MIGRATIONS
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import PostgresForTests, Roles

SIGNER = TokenSigner()
router = ApiRouter()


@router.get("/whoami", permission="documents:read")
async def whoami(caller: Caller) -> dict[str, str]:
    return {"principal": caller.principal, "workspace": str(caller.workspace_id)}


@dataclass(frozen=True)
class CounterService:
    """A service that has nothing but its replica to tell who somebody is; auth's address leads nowhere."""

    database: Database
    name: str = "counter"
    settings: ServiceSettings = field(default_factory=lambda: settings_for_tests(auth_url="http://127.0.0.1:1"))
    routers: Sequence[tuple[str, APIRouter]] = (("/counter/v1", router),)
    outside: None = None
    authority: None = None
    checks: Mapping[str, Check] = field(default_factory=dict)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        await self.database.start()
        yield
        await self.database.stop()


@pytest.fixture(scope="module")
async def roles(postgres: PostgresForTests) -> AsyncIterator[Roles]:
    async with postgres.database(MIGRATIONS) as roles:
        yield roles


@pytest.fixture(scope="module")
async def database(roles: Roles) -> AsyncIterator[Database]:
    database = Database(roles.service, service="counter")
    await database.start()
    yield database
    await database.stop()


@pytest.fixture
async def another(roles: Roles) -> AsyncIterator[Database]:
    """The same database as another process has it."""
    database = Database(roles.service, service="counter")
    await database.start()
    yield database
    await database.stop()


async def apply(database: Database, *events: EventData) -> None:
    for data in events:
        envelope = Envelope(id=uuid7(), type=data.event_type, source="auth", time=datetime.now(UTC), sequence=1)
        assert await database.run((), apply_identity, Event(data, envelope)) is DONE


def workspace_of(slug: str, id: UUID, *, deleted: bool = False) -> WorkspaceChanged:
    return WorkspaceChanged(key_id=f"workspace:{id}", workspace_id=id, slug=slug, name=slug.title(), deleted=deleted)


def member(workspace: UUID, user: UUID, *permissions: str, deleted: bool = False) -> MembershipChanged:
    return MembershipChanged(
        key_id=f"membership:{workspace}:{user}",
        workspace_id=workspace,
        user_id=user,
        roles=("x",),
        permissions=permissions,
        deleted=deleted,
    )


def module(workspace: UUID, name: str, *capabilities: str, deleted: bool = False) -> ModuleChanged:
    return ModuleChanged(
        key_id=f"module:{workspace}:{name}",
        workspace_id=workspace,
        module=name,
        capabilities=capabilities,
        mode="optional",
        deadline_seconds=60,
        deleted=deleted,
    )


def tick(seconds_ago: float = 0.0) -> Ticked:
    return Ticked(at=datetime.now(UTC) - timedelta(seconds=seconds_ago))


def authority_of(database: Database) -> ReplicatedAuthority:
    """An authority that must do without auth."""

    def never(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("auth is not there")

    auth = AuthClient(httpx.AsyncClient(transport=httpx.MockTransport(never)), "http://auth/check")
    changed = database.signals.subscribe(IDENTITY_CHANGED)
    return ReplicatedAuthority(DatabaseReplica(database), TokenVerifier(SIGNER, SIGNER.issuer), auth, changed)


async def test_every_type_of_the_topic_is_taken() -> None:
    subscription = identity_subscription("counter")
    assert subscription.name == "counter.identity"
    assert len(subscription.handlers) == 7


async def test_before_the_first_tick_the_replica_is_infinitely_old(database: Database) -> None:
    snapshot = await DatabaseReplica(database).read(["workspace:x"])
    assert (dict(snapshot.rows), snapshot.age) == ({}, float("inf"))


async def test_the_age_is_that_of_the_last_tick_and_of_its_arrival(database: Database, roles: Roles) -> None:
    replica = DatabaseReplica(database)
    await apply(database, tick())
    assert (await replica.read([])).age < 2
    await apply(database, tick(100))
    assert 99 < (await replica.read([])).age < 110
    await apply(database, tick(-3600))
    owner = await asyncpg.connect(roles.owner)
    try:
        await owner.execute("update identity_replica set at = at - interval '40 seconds' where key_id = 'clock'")
    finally:
        await owner.close()
    assert 39 < (await replica.read([])).age < 50


async def test_the_last_state_of_a_key_wins_and_a_slug_leads_to_its_present_owner(database: Database) -> None:
    replica = DatabaseReplica(database)
    first, second = uuid4(), uuid4()
    await apply(database, workspace_of("lab", first), workspace_of("lab-2", first), workspace_of("lab", second))
    rows = (await replica.read(["slug:lab", "slug:lab-2", f"workspace:{first}"])).rows
    assert rows["slug:lab"]["workspace_id"] == str(second)
    assert rows["slug:lab-2"]["workspace_id"] == str(first)
    assert rows[f"workspace:{first}"]["slug"] == "lab-2"
    await apply(database, workspace_of("lab-2", first, deleted=True))
    rows = (await replica.read(["slug:lab-2", f"workspace:{first}"])).rows
    assert set(rows) == {f"workspace:{first}"}
    assert rows[f"workspace:{first}"]["deleted"] is True


async def test_a_held_key_is_worth_nothing_until_it_is_settled(database: Database, roles: Roles) -> None:
    workspace, user = uuid4(), uuid4()
    key = f"membership:{workspace}:{user}"
    await apply(database, member(workspace, user, "documents:read"))
    owner = await asyncpg.connect(roles.owner)
    try:
        for name in (key, "key:never-seen"):
            await owner.execute("insert into held_key values ('counter.identity', 'kgl.identity', $1)", name)
        rows = (await DatabaseReplica(database).read([key, "key:never-seen"])).rows
        assert rows == {key: UNREADABLE, "key:never-seen": UNREADABLE}
        await owner.execute("delete from held_key")
        await apply(database, workspace_of(f"w{workspace.hex}", workspace))
        place = f"workspace:{workspace}"
        assert (await DatabaseReplica(database).read([key])).rows[place]["deleted"] is False
        await owner.execute("insert into held_key values ('counter.identity', 'kgl.identity', $1)", place)
        assert (await DatabaseReplica(database).read([key])).rows[place] == UNREADABLE
        await owner.execute("delete from held_key")
    finally:
        await owner.close()
    assert (await DatabaseReplica(database).read([key])).rows[key]["permissions"] == ["documents:read"]


async def test_the_choices_of_a_user_are_the_workspaces_that_are_still_open_to_them(database: Database) -> None:
    user, mine, left, gone = uuid4(), uuid4(), uuid4(), uuid4()
    await apply(
        database,
        *(workspace_of(f"w{each.hex}", each) for each in (mine, left, gone)),
        *(member(each, user, "documents:read") for each in (mine, left, gone)),
        member(mine, uuid4(), "documents:read"),
        member(left, user, deleted=True),
        workspace_of(f"w{gone.hex}", gone, deleted=True),
    )
    assert [choice.id for choice in await DatabaseReplica(database).workspaces(user)] == [mine]


async def test_a_member_a_key_and_their_ends_from_events_to_answer(database: Database) -> None:
    workspace, user, key = uuid4(), uuid4(), ApiKey.generate()
    slug = f"w{workspace.hex}"
    changed = KeyChanged(
        key_id=f"key:{key.id}",
        api_key_id=key.id,
        workspace_id=workspace,
        secret_sha256=key.secret_sha256,
        permissions=("modules:work",),
        module="tagger",
        expires_at=datetime.now(UTC) + timedelta(days=1),
    )
    await apply(database, workspace_of(slug, workspace), member(workspace, user, "documents:read"), changed, tick())
    token = f"Bearer {SIGNER.token(user)}"
    for hint in (slug, str(workspace)):
        checked = await authority_of(database).check(token, hint, reading=False)
        assert checked.workspace_id == workspace
        assert checked.permissions == {"documents:read"}
    by_key = await authority_of(database).check(f"Bearer {key.text}", slug, reading=False)
    assert (by_key.workspace_id, by_key.module, by_key.expires_at) == (workspace, "tagger", changed.expires_at)
    await apply(database, member(workspace, user, deleted=True), changed.model_copy(update={"revoked": True}), tick())
    with pytest.raises(WorkspaceDenied):
        await authority_of(database).check(token, slug, reading=False)
    with pytest.raises(KeyInvalid):
        await authority_of(database).check(f"Bearer {key.text}", None, reading=False)
    revoked = SessionRevoked(
        key_id="session:session-1", session_id="session-1", user_id=user, revoked_at=datetime.now(UTC)
    )
    await apply(database, revoked)
    with pytest.raises(SessionEnded):
        await authority_of(database).check(token, None, reading=False)


async def test_a_revocation_is_known_at_once_where_it_is_applied_and_soon_in_every_other_process(
    database: Database, another: Database
) -> None:
    workspace, key = uuid4(), ApiKey.generate()
    changed = KeyChanged(
        key_id=f"key:{key.id}",
        api_key_id=key.id,
        workspace_id=workspace,
        secret_sha256=key.secret_sha256,
        permissions=("documents:read",),
    )
    await apply(database, workspace_of(f"w{workspace.hex}", workspace), changed, tick())
    here, there = authority_of(database), authority_of(another)
    for authority in (here, there):
        await authority.check(f"Bearer {key.text}", None, reading=True)
    await apply(database, changed.model_copy(update={"revoked": True}))
    with pytest.raises(KeyInvalid):
        await here.check(f"Bearer {key.text}", None, reading=True)

    async def refused() -> bool:
        try:
            await there.check(f"Bearer {key.text}", None, reading=True)
        except KeyInvalid:
            return True
        return False

    assert await eventually(refused, within=4)  # sooner than the answer ends by itself


async def _listened(database: Database) -> asyncio.Event:
    """The signal of changes, not set; a connection that begins to listen sets it once, as it may have missed some."""
    changed = database.signals.subscribe(IDENTITY_CHANGED)
    await eventually(lambda: _is_set(changed), within=5)
    changed.clear()
    return changed


async def _is_set(event: asyncio.Event) -> bool:
    return event.is_set()


async def test_a_tick_drops_no_answer(another: Database) -> None:
    changed = await _listened(another)
    await apply(another, tick())
    assert not changed.is_set()
    await apply(another, module(uuid4(), "tagger", "extract"))
    assert changed.is_set()


async def test_answers_are_dropped_when_a_connection_that_may_have_missed_something_is_back(
    another: Database, roles: Roles
) -> None:
    changed = await _listened(another)
    superuser = await asyncpg.connect(roles.superuser)
    try:
        ended = await superuser.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
            " and pid <> pg_backend_pid()"
        )
        assert ended
        assert await eventually(lambda: _is_set(changed), within=5)
    finally:
        await superuser.close()


async def test_modules_are_those_enabled_and_the_built_in_reader_for_what_is_left(database: Database) -> None:
    async def modules(tx: Transaction, workspace: UUID) -> list[Module]:
        return await access.modules(tx, workspace)

    workspace = uuid4()
    reader = Module("reader", frozenset({"extract", "summarise"}), "required", 600)
    assert await database.run(workspace, modules, workspace) == [reader]
    await apply(database, module(workspace, "tagger", "extract"), module(workspace, "old", "summarise", deleted=True))
    tagger = Module("tagger", frozenset({"extract"}), "optional", 60)
    left = Module("reader", frozenset({"summarise"}), "required", 600)
    assert await database.run(workspace, modules, workspace) == [left, tagger]
    await apply(database, module(workspace, "writer", "summarise", "embed"))
    assert [each.name for each in await database.run(workspace, modules, workspace)] == ["tagger", "writer"]
    assert await database.run(workspace, modules, uuid4()) == [reader]


async def test_a_service_lets_in_by_its_own_replica_and_says_503_where_only_auth_could_tell(
    database: Database,
) -> None:
    workspace, key = uuid4(), ApiKey.generate()
    changed = KeyChanged(
        key_id=f"key:{key.id}",
        api_key_id=key.id,
        workspace_id=workspace,
        secret_sha256=key.secret_sha256,
        permissions=("documents:read",),
    )
    await apply(database, workspace_of(f"w{workspace.hex}", workspace), changed, tick())
    app = create_app(CounterService(database))
    async with app.router.lifespan_context(app), client_of(app) as client:
        known = await client.get("/counter/v1/whoami", headers={"Authorization": f"Bearer {key.text}"})
        assert (known.status_code, known.json()["principal"]) == (200, f"key:{key.id}")
        for stranger in (ApiKey.generate().text, SIGNER.token()):
            unknown = await client.get("/counter/v1/whoami", headers={"Authorization": f"Bearer {stranger}"})
            assert (unknown.status_code, unknown.json()["code"]) == (503, "identity_unavailable")
            assert "retry-after" in unknown.headers
        assert (await client.get("/health/ready")).json()["dependencies"]["database"]["up"] is True
