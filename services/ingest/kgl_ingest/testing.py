"""The ingest service for tests: real database, real application, a caller who may do everything."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import httpx

from kgl_contracts.operations import OperationEnded
from kgl_ingest.bootstrap import MIGRATIONS, build
from kgl_ingest.settings import IngestSettings
from kgl_ingest.use_cases.record_parsed import RecordParsed
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.identity.testing import FakeAuthority
from kgl_servicekit.ids import uuid7
from kgl_servicekit.objects.port import ObjectStore
from kgl_servicekit.service import Service
from kgl_servicekit.testing.postgres import PostgresForTests


@dataclass
class Ingest:
    """The service on a fresh database, its HTTP application, and a workspace to work in."""

    service: Service
    client: httpx.AsyncClient
    authority: FakeAuthority
    workspace: UUID
    headers: dict[str, str]

    @property
    def database(self) -> Database:
        return self.service.database

    async def upload(self, text: str, **fields: str) -> httpx.Response:
        """Upload a text as JSON."""
        return await self.client.post("/ingest/v1/documents", json={"text": text, **fields}, headers=self.headers)

    async def ends(self, operation: UUID) -> list[OperationEnded]:
        """What was told of the end of an operation."""

        async def read(tx: Transaction, _: None) -> list[OperationEnded]:
            sql = "select data from outbox_log where type = $1 and key = $2 order by id"
            rows = await tx.fetch(sql, OperationEnded.event_type, str(operation))
            return [OperationEnded.model_validate_json(row["data"]) for row in rows]

        return await self.database.run((), read, None)


@asynccontextmanager
async def ingest_kit(
    postgres: PostgresForTests, folder: Path, *, objects: ObjectStore | None = None
) -> AsyncIterator[Ingest]:
    """The service on a database and a folder of its own, or on other objects."""
    async with postgres.database(MIGRATIONS) as roles:
        settings = IngestSettings(
            env="test",
            database_url=roles.service,
            bus_url="postgresql:///none",
            object_dir=folder / "objects",
            worker_name="test",
            parser_processes=1,
        )
        authority = FakeAuthority()
        service = replace(build(settings, MemoryBus()), authority=authority)
        if objects is not None:
            service = replace(service, outside=replace(service.outside, objects=objects))
        app = service.api()
        workspace = uuid7()
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
        ):
            yield Ingest(service, client, authority, workspace, authority.user(workspace))


def manifest(document: UUID) -> RecordParsed:
    """What the parser says of a document's first version."""
    return RecordParsed(
        document_id=document,
        version=1,
        title="Title",
        chunks_object="chunks",
        chunks_sha256="0" * 64,
        text_object="text",
        chunk_count=1,
        text_length=1,
    )
