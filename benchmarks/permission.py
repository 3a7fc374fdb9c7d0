"""What a permission check costs: kept, at most 0.1 ms at the median; not kept, one or two reads of the replica."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import uuid4

import httpx

from benchmarks.harness import Result, at_most, percentile
from kgl_contracts.envelope import Envelope
from kgl_contracts.event import EventData
from kgl_contracts.identity import KeyChanged, MembershipChanged, Ticked, WorkspaceChanged
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.signals import IDENTITY_CHANGED
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import Event
from kgl_servicekit.identity import ApiKey, Module, apply_identity, modules
from kgl_servicekit.identity.auth_client import AuthClient
from kgl_servicekit.identity.replica import DatabaseReplica
from kgl_servicekit.identity.replicated import ReplicatedAuthority
from kgl_servicekit.identity.testing import TokenSigner
from kgl_servicekit.identity.tokens import TokenVerifier
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.counter import MIGRATIONS
from kgl_servicekit.testing.postgres import PostgresForTests, temporary_postgres

CHECKS = 20_000
MISSES = 1_000
MOST_KEPT = 0.1  # ms
MOST_READ = 5.0  # ms

WORKSPACE, USER, KEY, SIGNER = uuid4(), uuid4(), ApiKey.generate(), TokenSigner()

EVENTS: tuple[EventData, ...] = (
    WorkspaceChanged(key_id=f"workspace:{WORKSPACE}", workspace_id=WORKSPACE, slug="lab", name="Lab"),
    MembershipChanged(
        key_id=f"membership:{WORKSPACE}:{USER}",
        workspace_id=WORKSPACE,
        user_id=USER,
        roles=("editor",),
        permissions=("documents:read",),
    ),
    KeyChanged(
        key_id=f"key:{KEY.id}",
        api_key_id=KEY.id,
        workspace_id=WORKSPACE,
        secret_sha256=KEY.secret_sha256,
        permissions=("documents:read",),
    ),
)


async def measure() -> list[Result]:
    """Medians and 99th percentiles of checks by API key and by access token, in milliseconds."""
    with temporary_postgres() as url:
        async with PostgresForTests(url).database(MIGRATIONS) as roles:
            database = Database(roles.service, service="counter")
            await database.start()
            await _apply(database, Ticked(at=datetime.now(UTC)))
            ticking = asyncio.create_task(_tick(database))
            try:
                for event in EVENTS:
                    await _apply(database, event)
                return await _measured(database)
            finally:
                ticking.cancel()
                await database.stop()


async def _measured(database: Database) -> list[Result]:
    authority = _authority(database)
    token = SIGNER.token(USER)
    results: list[Result] = []
    for name, authorization, hint in (
        ("API key", f"Bearer {KEY.text}", None),
        ("access token", f"Bearer {token}", str(WORKSPACE)),
    ):

        async def check(authorization: str = authorization, hint: str | None = hint) -> None:
            await authority.check(authorization, hint, reading=True)

        def forget() -> None:
            authority._kept.clear()

        kept = await _milliseconds(check, CHECKS)
        read = await _milliseconds(check, MISSES, before=forget)
        results += [
            at_most(f"permission check, {name}, kept, p50", "ms", percentile(kept, 0.5), MOST_KEPT),
            at_most(f"permission check, {name}, kept, p99", "ms", percentile(kept, 0.99), MOST_KEPT),
            at_most(f"permission check, {name}, read, p50", "ms", percentile(read, 0.5), MOST_READ),
        ]

    async def read_modules() -> None:
        await database.run(WORKSPACE, _modules, None)

    async def nothing() -> None:
        await database.run(WORKSPACE, _nothing, None)

    empty = percentile(await _milliseconds(nothing, MISSES), 0.5)
    with_modules = percentile(await _milliseconds(read_modules, MISSES), 0.5)
    return [*results, at_most("modules() in a transaction, p50", "ms", with_modules - empty, 1.0)]


async def _milliseconds(
    work: Callable[[], Awaitable[None]], count: int, before: Callable[[], None] = lambda: None
) -> list[float]:
    await work()
    gc.collect()
    taken = []
    for _ in range(count):
        before()
        start = time.perf_counter()
        await work()
        taken.append((time.perf_counter() - start) * 1000)
    return taken


def _authority(database: Database) -> ReplicatedAuthority:
    def never(request: httpx.Request) -> httpx.Response:
        raise AssertionError("the replica knows all that is asked here")

    auth = AuthClient(httpx.AsyncClient(transport=httpx.MockTransport(never)), "http://auth/check")
    changed = database.signals.subscribe(IDENTITY_CHANGED)
    return ReplicatedAuthority(DatabaseReplica(database), TokenVerifier(SIGNER, SIGNER.issuer), auth, changed)


async def _apply(database: Database, event: EventData) -> None:
    envelope = Envelope(id=uuid7(), type=event.event_type, source="auth", time=datetime.now(UTC), sequence=1)
    await database.run((), apply_identity, Event(event, envelope))


async def _tick(database: Database) -> None:
    while True:
        await _apply(database, Ticked(at=datetime.now(UTC)))
        await asyncio.sleep(1)


async def _modules(tx: Transaction, _: None) -> list[Module]:
    return await modules(tx, WORKSPACE)


async def _nothing(tx: Transaction, _: None) -> None:
    return None
