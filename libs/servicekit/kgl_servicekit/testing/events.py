"""Events for tests of the core: a subscription that does as it is told, records by hand, and what is held."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from kgl_contracts.envelope import Envelope
from kgl_contracts.ingest import DocumentDeleted
from kgl_contracts.topics import DOCUMENTS
from kgl_servicekit.bus.port import Record
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import DONE, Event, Reject, Subscription, Verdict
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.counter import count

WORKSPACE = uuid7()


@asynccontextmanager
async def running(*loops: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """These loops run meanwhile."""
    tasks = [asyncio.ensure_future(loop()) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Handler:
    """A subscription that counts what it is given, and fails as it is told."""

    def __init__(self, **options: float) -> None:
        self.seen: list[tuple[UUID, int]] = []
        self.fail: set[int] = set()
        self.reject: set[int] = set()
        self.subscription = Subscription(
            "counter.documents",
            topic=DOCUMENTS,
            **{"backoff": 0.01, **options},  # type: ignore[arg-type]
        )
        self.subscription.on(DocumentDeleted, stage="count")(self.handle)

    async def handle(self, tx: Transaction, event: Event[DocumentDeleted]) -> Verdict:
        version = event.data.version
        await count(tx, f"consumed {event.data.document_id}")
        if version in self.fail:
            raise RuntimeError(f"version {version} hurts")
        if version in self.reject:
            return Reject("we do not like it")
        await tx.execute("insert into counter values ($1, $2, 1)", tx.workspace, f"{event.data.document_id}/{version}")
        self.seen.append((event.data.document_id, version))
        return DONE


async def consumed_events(database: Database) -> dict[str, int]:
    """How often each event had its effect, by `<document>/<version>`."""

    async def read(tx: Transaction, _: None) -> dict[str, int]:
        rows = await tx.fetch("select name, value from counter where name like '%/%'")
        return {row["name"]: row["value"] for row in rows}

    return await database.run(WORKSPACE, read, None)


async def consumed(database: Database, document: UUID) -> int:
    """How many events of a document had their effect."""

    async def read(tx: Transaction, name: str) -> int:
        value: int | None = await tx.fetchval("select value from counter where name = $1", name)
        return value or 0

    return await database.run(WORKSPACE, read, f"consumed {document}")


async def held(database: Database) -> list[asyncpg.Record]:
    """The held events, in the order of their keys."""

    async def read(tx: Transaction, _: None) -> list[asyncpg.Record]:
        return await tx.fetch("select * from held_event order by key, epoch, sequence, id")

    return await database.run((), read, None)


async def held_key_count(database: Database) -> int:
    """How many keys are held."""

    async def read(tx: Transaction, _: None) -> int:
        found: int = await tx.fetchval("select count(*) from held_key")
        return found

    return await database.run((), read, None)


def record(document: UUID, sequence: int, *, version: int | None = None, value: bytes | None = None) -> Record:
    """An event of the ingest service as it comes from the bus."""
    event = DocumentDeleted(document_id=document, version=version or sequence)
    envelope = Envelope(
        id=uuid7(),
        type=event.event_type,
        source="ingest",
        time=datetime.now(UTC),
        workspace_id=WORKSPACE,
        sequence=sequence,
    )
    return Record(
        topic=DOCUMENTS.name,
        key=str(document),
        headers=envelope.headers(),
        value=value or event.model_dump_json().encode(),
    )
